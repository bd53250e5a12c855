"""Pages of text that are written from the tables: figures/README.md, and the README's results.

Each part stands between two comments, `<!-- name -->` and `<!-- /name -->`, so that it can be
written again without the rest. Notebook 91 writes them all.
"""

from pathlib import Path

import pandas as pd

from noisyseg.paper import source_data, standings
from noisyseg.plots.style import title_of
from noisyseg.storage import figures_root, project_root, replacing

# File below figures/ -> the notebook that draws it ("": `make bench`), and what it shows.
FIGURES = {
    "mnist_trace": ("90", "What the paper's method learned on one digit"),
    "mnist_calibrated": ("10", "What ours learned on one digit"),
    "mnist_trace_printed": ("90", "The label swap: Eq. 4 as printed, on the same digit"),
    "mnist_comparison": ("90", "One digit, every method's estimate"),
    "mnist_dice": ("90", "Dice on MNIST, every method, one dot per seed"),
    "mnist_one_label": ("10", "Dice on MNIST with one label an image"),
    "mnist_cm_rmse": ("90", "Error of the estimated confusion matrices on MNIST"),
    "mnist_ged": ("90", "Energy distance between predicted and real annotations"),
    "ms_dice": ("20", "Dice on MS lesions"),
    "ms_calibrated": ("20", "What ours learned on one slice with lesions"),
    "brats_dice": ("21", "Dice of BraTS' core on all slices"),
    "brats_core": ("90", "Dice of BraTS' core on slices that hold one"),
    "brats_calibrated": ("21", "What ours learned on one slice with a tumour"),
    "brats_comparison": ("21", "One slice, every method's estimate"),
    "lidc_dice": ("22", "Dice on LIDC"),
    "lidc_calibrated": ("22", "What ours learned on one nodule"),
    "lidc_agreement": ("22", "Dice of an image against how well its readers agree"),
    "lidc_by_agreement": ("22", "The ranking where readers agree, and where they do not"),
    "lidc_rendering": ("22", "The ranking under pictures rendered by other rules"),
    "people_dice": ("90", "Dice on cells that real people outlined, all label"),
    "people_dice_one": ("90", "Dice on cells that real people outlined, one label an image"),
    "verdicts": ("91", "Every claim with its interval, for both readings of the loss"),
    "ladder": ("30", "From the loss as released to the paper's method, step by step"),
    "plateau": ("30", "Plateau and cliff: trace weight and length of the fixed phase"),
    "ablation_trace": ("30", "Dice and matrices against the trace weight"),
    "predicted_choice": ("30", "What the objective prefers, predicted from the labels alone"),
    "swap_monitor": ("30", "The swap monitor while a network is trained"),
    "trace_weight_pull": ("30", "What the trace does to the matrices"),
    "ablation_noise_dice": ("31", "Dice against the size of the annotators' errors"),
    "ablation_noise_cm": ("31", "Error of the matrices against the annotators' errors"),
    "ablation_annotators": ("31", "Dice against the number of annotators"),
    "ablation_labels": ("31", "Dice against the number of labels an image"),
    "bench": ("", "What the method costs: training steps as ratios to a plain U-Net"),
    "ablation_confusion": ("32", "Global, per-pixel and low-rank matrices"),
}
DATA = standings.GLANCE_DATA | {"brats": "BraTS' core, all slices"}
LABELLINGS = {"dense": "all label", "one": "one label"}
SHOWN = ["claim", "reading", "verdict", "paper", "ours", "interval", "data"]  # of verdicts.csv
# The tables of the paper beside ours: file -> title.
PRINTED = {
    "table1_mnist": "MNIST, all annotators label (Table 1)",
    "table2_mnist": "MNIST, one label an image (Table 2)",
    "table1_ms": "MS lesions, all annotators label (Table 1)",
    "table2_ms": "MS lesions, one label an image (Table 2)",
    "table4_brats": "BraTS' core, all annotators label (Table 4)",
    "table5_brats": "BraTS' core, one label an image (Table 5)",
    "table4_lidc": "LIDC, all readers label (Table 4)",
    "table5_lidc": "LIDC, one label an image (Table 5)",
}
TEXT = """## Tables

Every number is a mean over seeds of the profile `{profile}`. Real: the digits of MNIST, the
outlines of LIDC, the cells and their annotators. Stand-ins: MS and BraTS, and the CT of LIDC;
there, the printed values are no comparison. `source_data/` holds one row for each value.

### Every method on every data set

Dice in %, and in brackets the rank among networks that never see the truth (1 is best): all
annotators label / one label an image. Then the worst rank; the largest gap to the best ranked
network, in points; and in how many columns the method has a rank. Sorted by the worst rank.

{ranks}
### Real people

Cells outlined by anonymous crowd workers and by four students, Dice in %, mean (smallest–largest)
over seeds.

{people}
How far ahead of a network on majority labels, in Dice points with the 95 % interval:

{ahead}
### Verdicts on the claims

{verdicts}
### The paper's tables beside ours
{printed}
## Figures

{figures}"""


def put(file: Path, name: str, text: str) -> None:
    """Write `text` into `file` between the comments that bear `name`; at the end if none do.

    Raises ValueError where one of the two comments is missing.
    """
    start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    old = file.read_text("utf-8") if file.exists() else ""
    if (start in old) != (end in old):
        raise ValueError(f"{file}: only one of {start.strip()} and {end} is there; write both")
    if start not in old:
        old = f"{old.rstrip()}\n\n{start}{end}\n".lstrip("\n")
    before, after = old.split(start)[0], old.split(end, 1)[1]
    with replacing(file) as part:
        part.write_text(f"{before}{start}{text.rstrip()}\n{end}{after}", "utf-8")


def markdown(table: pd.DataFrame) -> str:
    """A table in Markdown, its index left out; bars within cells are escaped."""
    rows = [[*table.columns], ["---"] * len(table.columns), *table.fillna("").to_numpy().tolist()]
    cells = [[str(cell).replace("|", "\\|") for cell in row] for row in rows]
    return "".join(f"| {' | '.join(row)} |\n" for row in cells)


def tables_page() -> str:
    """The tables and the list of figures for figures/README.md, from the files in figures/."""
    sources = {name: source_data.read(name) for name in ("people", "mnist", "ms", "brats", "lidc")}
    return TEXT.format(
        profile=sources["mnist"].profile.iloc[0],
        ranks=markdown(ranks_in_words(standings.ranks(sources))),
        people=markdown(_titled(_worded(_read("people")))),
        ahead=markdown(_worded(_read("people_ahead"))),
        verdicts=markdown(_read("verdicts")[SHOWN].rename(columns={"ours": "here"})),
        printed="".join(_beside(name, title) for name, title in PRINTED.items()),
        figures=markdown(_figures()),
    )


def write() -> None:
    """Write figures/README.md and the results of the README anew."""
    put(figures_root() / "README.md", "tables", tables_page())
    put(project_root() / "README.md", "results", standings.at_a_glance())


def _read(name: str) -> pd.DataFrame:
    path = figures_root() / f"{name}.csv"
    if not path.exists():
        raise FileNotFoundError(f"no {path}: run notebook 91 (`make figures ONLY=91_tables`)")
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def _worded(table: pd.DataFrame) -> pd.DataFrame:
    """Data sets and labellings in words; what all rows stand on is said in the text."""
    names = {f"{d} {k}": f"{DATA[d]}, {words}" for d in DATA for k, words in LABELLINGS.items()}
    table = table.drop(columns="data").rename(columns=DATA | names)
    return table.replace({"labelling": LABELLINGS}) if "labelling" in table else table


def _titled(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(method=table.method.map(title_of))


def _beside(name: str, title: str) -> str:
    table = _titled(_read(name)).rename(columns=lambda head: head.replace(", ours", ", here"))
    return f"\n#### {title}\n\n{markdown(table)}"


def ranks_in_words(ranked: pd.DataFrame) -> pd.DataFrame:
    """`standings.ranks`, one row a method and one column a data set: mean Dice in % (rank).

    Both labellings in one cell, all annotators label / one label an image; then the worst rank, the
    largest gap to the best ranked network in points, and in how many columns there is a rank.
    """
    table = pd.DataFrame({"method": ranked.index.map(title_of)}, index=ranked.index)
    sets = dict.fromkeys(name for name, _, what in ranked.columns if what == "mean")
    for name in sets:
        kinds = [k for k in ("dense", "one") if (name, k, "mean") in ranked]
        cells = [[_cell(row, (name, kind)) for kind in kinds] for _, row in ranked.iterrows()]
        table[DATA[name]] = [" / ".join(cell) for cell in cells]
    for name, scale, digits in (("worst rank", 1, 0), ("largest gap", 100, 1), ("ranked in", 1, 0)):
        values = scale * ranked[name, "", ""]
        known = ranked["worst rank", "", ""].notna()
        table[name] = [f"{v:.{digits}f}" if k else "" for v, k in zip(values, known, strict=True)]
    return table


def _cell(row: pd.Series, key: tuple[str, str]) -> str:
    mean, rank = row[(*key, "mean")], row.get((*key, "rank"), float("nan"))
    if pd.isna(mean):
        return "–"
    return f"{100 * mean:.1f}" + ("" if pd.isna(rank) else f" ({rank:.0f})")


def _figures() -> pd.DataFrame:
    rows = [
        (f"[{name}.png]({name}.png)", text, _notebook(number))
        for name, (number, text) in FIGURES.items()
    ]
    return pd.DataFrame(rows, columns=["figure", "what it shows", "drawn by"])


def _notebook(number: str) -> str:
    if not number:
        return "`make bench`"
    (file,) = (project_root() / "notebooks").glob(f"{number}_*.ipynb")
    return f"[{file.stem}](../notebooks/{file.name})"
