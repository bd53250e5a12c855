"""Be the next annotator: paint on a digit, a nodule or a lesion; see what the others make of you.

The browser draws (`web/annotate.js`); the numbers are those of `newcomer`, computed here where
there is a kernel and by its twin in the page where there is none. Saves a folder that
`python -m noisyseg.report` reads.
"""

import base64
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import traitlets
from jaxtyping import Int
from matplotlib.figure import Figure
from numpy import ndarray
from PIL import Image

from noisyseg import storage
from noisyseg.data.dataset import SegmentationDataset
from noisyseg.plots import maps, style
from noisyseg.storage import data_root
from noisyseg.widgets.bake import in_book
from noisyseg.widgets.live import Live
from noisyseg.widgets.newcomer import Newcomer, Task, coded, rules, task_of

DATASETS = ("mnist", "lidc", "ms")
IMAGES = 6  # of each data set
DEFAULT_NAME = "newcomer"
MOST_LETTERS = 60  # of a name of a file


class NextAnnotator(Live, module="annotate"):
    """Traits: `masks`, what is painted by "task:image"; `at`, what is shown; `answer` to it.

    `newcomers` holds one `Newcomer` a data set. `save()` writes what is painted.
    """

    title = "Be the next annotator"
    listed: Any = traitlets.List().tag(sync=True)
    pixels = traitlets.Bytes().tag(sync=True)
    written = traitlets.Bytes().tag(sync=True)
    rules = traitlets.Dict().tag(sync=True)
    name = traitlets.Unicode(DEFAULT_NAME).tag(sync=True)
    masks = traitlets.Dict().tag(sync=True)
    at = traitlets.Dict({"task": 0, "image": 0, "n": 0}).tag(sync=True)
    answer = traitlets.Dict().tag(sync=True)
    asked = traitlets.Int(0).tag(sync=True)  # how often Save was pressed
    said = traitlets.Dict().tag(sync=True)  # what came of it

    def __init__(self, tasks: Iterable[Task], folder: str | Path = "annotations") -> None:
        tasks = [*tasks]
        if not tasks:
            raise ValueError("nothing to paint on: prepare one of " + ", ".join(DATASETS))
        self.folder = Path(folder).expanduser()
        self.newcomers = [Newcomer(task) for task in tasks]
        listed, pixels, written = coded(tasks)
        super().__init__(listed=listed, pixels=pixels, written=written, rules=rules())
        self.observe(self._answer, "at")
        self.observe(self._saved, "asked")
        self._answer()

    def paint(self, mask: Int[ndarray, "h w"] | None, image: int = 0, task: int = 0) -> None:
        """Set what is painted on an image, 0 and 1 by pixel, and show it; None takes it back."""
        masks = {**self.masks, f"{task}:{image}": None if mask is None else _bits(mask)}
        with self.hold_trait_notifications():
            self.masks = {key: bits for key, bits in masks.items() if bits is not None}
            self.at = {"task": task, "image": image, "n": self.at["n"] + 1}

    def _answer(self, *_: Any) -> None:
        """Take what was painted, measure it, and say so under the number of the question."""
        # An exception in a callback goes to a log that no reader of a notebook ever sees.
        try:
            task, image = int(self.at["task"]), int(self.at["image"])
            newcomer = self.newcomers[task]
            for k in range(len(newcomer.masks)):
                newcomer.paint(k, self.mask(k, task))
            self.answer = {"n": self.at["n"], **newcomer.measure(image)}
        except Exception as error:
            self.answer = {"n": self.at.get("n"), "error": f"{error or type(error).__name__}"}

    def mask(self, image: int = 0, task: int = 0) -> Int[ndarray, "h w"] | None:
        """What is painted on an image, None where nothing is."""
        bits = self.masks.get(f"{task}:{image}")
        space = self.newcomers[task].task.truth.shape[1:]
        return None if bits is None else _from_bits(bits, space)

    def _saved(self, *_: Any) -> None:
        try:
            folders = self.save()
        except (OSError, ValueError) as error:
            self.said = {"n": self.asked, "error": str(error)}
            return
        where = ", ".join(map(str, folders))
        self.said = {
            "n": self.asked,
            "text": f"saved to {where}; report: python -m noisyseg.report --data {folders[0]} "
            "--out report",
        }

    def save(self) -> list[Path]:
        """Write what is painted as folders for `python -m noisyseg.report --data`.

        One folder a data set that was painted on, with `images/`, a folder of masks for every
        other annotator and one of the name of the newcomer. An image that was not painted has no
        mask there. Saving again overwrites the newcomer's masks. Raises ValueError before
        anything was painted and for a name that is another annotator's.
        """
        painted = [t for t in range(len(self.newcomers)) if self._painted(t)]
        if not painted:
            raise ValueError("nothing is painted yet: paint an image first")
        return [self._save(t) for t in painted]

    def _painted(self, task: int) -> list[int]:
        count = len(self.newcomers[task].masks)
        return [k for k in range(count) if f"{task}:{k}" in self.masks]

    def _save(self, number: int) -> Path:
        task = self.newcomers[number].task
        name, others = file_name(self.name), [file_name(a) for a in task.annotators]
        if name.lower() in (*map(str.lower, others), "images"):
            raise ValueError(f"the name {self.name!r} is taken here: give yourself another one")
        out = self.folder.absolute() / file_name(task.name)
        files = [f"{file_name(i)}.png" for i in task.image_ids]
        for k, file in enumerate(files):
            _write_png(out / "images" / file, 255 * style.grey(task.images[k, 0]))
            for r, other in enumerate(others):
                if (task.labels[k, r] >= 0).all():
                    _write_png(out / other / file, 255 * task.labels[k, r].astype(float))
            mine = self.mask(k, number)
            if mine is not None:
                _write_png(out / name / file, 255 * mine.astype(float))
            else:
                (out / name / file).unlink(missing_ok=True)
        return out

    def _shown(self) -> tuple[Newcomer, int]:
        return self.newcomers[self.at["task"]], self.at["image"]

    def still(self) -> Figure:
        """The image, what is painted or else what the others wrote, and the three fusions."""
        newcomer, k = self._shown()
        task, mine = newcomer.task, self.mask(k, self.at["task"])
        shown = {"the image": style.grey(task.images[k, 0])}
        if mine is None:
            shown |= dict(zip(task.annotators, task.labels[k].astype(float), strict=True))
        else:
            shown["you"] = mine.astype(float)
        titles = {"majority": "vote", "staple": "STAPLE", "calibrated": "calibrated vote"}
        fused = newcomer.measure(k)["fusions"]
        for name, title in titles.items():
            mask = np.array([*fused[name]["mask"]], int).reshape(task.truth.shape[1:])
            shown[title] = (
                mask.astype(float) if mine is None else maps.true_spatial_matrix(mine, mask)
            )
        named = dict(zip(style.legible(shown), shown.values(), strict=True))
        figure = maps.picture_row(named, size=1.15)
        plt.close(figure)
        return figure

    def told(self) -> str:
        """What the still picture shows, in words."""
        newcomer, k = self._shown()
        return (
            f"{self.title}: {newcomer.task.name}, image {k + 1}, what the others wrote and fusions"
        )


def file_name(text: str) -> str:
    """`text` as the name of a file or folder: letters, digits, blanks, and no way out of a folder.

    Raises ValueError where nothing is left.

    Examples:
        >>> file_name("../training01/z036"), file_name(" Zoë B. ")
        ('training01_z036', 'Zoë B')
    """
    name = re.sub(r"[^\w +-]+", "_", text.strip()).strip("_. ")[:MOST_LETTERS].strip("_. ")
    if not name:
        raise ValueError(f"the name {text!r} has no letter or digit: give one that has")
    return name


def _write_png(path: Path, values: ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with storage.replacing(path) as part:
        Image.fromarray(np.round(values).astype(np.uint8)).save(part, format="PNG")


def _bits(mask: ndarray) -> str:
    return base64.b64encode(np.packbits(np.asarray(mask, bool).ravel()).tobytes()).decode()


def _from_bits(text: str, space: tuple[int, ...]) -> ndarray:
    """A mask from packed bits; ValueError for bits of another size."""
    count = int(np.prod(space))
    packed = np.frombuffer(base64.b64decode(text, validate=True), np.uint8)
    if len(packed) != -(-count // 8):
        raise ValueError(f"a mask of {8 * len(packed)} bits does not fit an image of {space}")
    return np.unpackbits(packed)[:count].reshape(space).astype(np.int8)


def next_annotator(
    dataset: str | SegmentationDataset | Iterable[str] | None = None,
    images: int = IMAGES,
    folder: str | Path = "annotations",
) -> NextAnnotator:
    """Paint on a few test images, and see yourself as one annotator more.

    Args:
        dataset: one or several prepared data sets with two classes, 2-D, with a truth; None for
            those of digits, nodules and lesions that are prepared here.
        images: how many of each.
        folder: where Save writes to, one folder a data set.
    """
    if dataset is None:
        dataset = [name for name in DATASETS if (data_root() / name).is_dir()]
    single = isinstance(dataset, str | SegmentationDataset)
    names = [dataset] if single else [*dataset]  # type: ignore[misc]
    return NextAnnotator([task_of(name, images) for name in names], folder)  # type: ignore[arg-type]


@in_book("annotate")
def _for_the_book() -> str:
    return next_annotator().fragment()
