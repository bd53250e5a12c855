"""What a CUDA card makes of the method: the same numbers as a CPU, and how fast.

    make gpu                                  # or: python benchmarks/gpu.py --out FOLDER

Three parts, each written to `gpu.csv` as soon as it is known:
1. agreement: loss and gradients of every method, two to eight classes, 2-D and 3-D, on the card
   against the CPU (float32 without TF32, then bf16 autocast);
2. limits: what the card itself reaches in arithmetic and in copying;
3. speed: images a second and peak memory of a training step at 28², 192² and in 3-D, plain U-Net
   and each head, as it is, compiled, and replayed as a CUDA graph.
"""

import argparse
import csv
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import noisyseg as ns
from noisyseg import build

METHODS = ("mode", "global_cm", "trace", "trace_low_rank", "calibrated", "released")
# name: image size, batch, classes, annotators, width, depth
SIZES = {
    "28²": ((28, 28), 256, 2, 5, 32, 3),
    "192²": ((192, 192), 16, 4, 5, 32, 4),
    "64³": ((64, 64, 64), 2, 2, 4, 16, 3),
}
COMPILED = ("mode", "trace")
SMALL = (((28, 28), 4, 2, 5, 8, 3), ((24, 20), 2, 8, 3, 8, 2), ((16, 12, 8), 2, 3, 4, 8, 2))
FIELDS = ("part", "device", "case", "method", "variant", "quantity", "value", "unit")
SECONDS = 0.3  # of steps for each measurement


def problem(method: str, size: tuple, device: str) -> tuple[torch.nn.Module, Any, Any, Any]:
    """A model, its objective, a batch of random labels and the config, all on `device`."""
    space, batch, classes, annotators, width, depth = size
    cfg = ns.ExperimentConfig.preset("mnist", "reduced", method, width=width, depth=depth)
    shape = {
        "channels": 1,
        "classes": [str(c) for c in range(classes)],
        "annotators": [str(r) for r in range(annotators)],
        "dims": len(space),
    }
    model = build.build_model(cfg, shape).to(device)
    coin = torch.Generator().manual_seed(0)
    labels = torch.randint(-1, classes, (batch, annotators, *space), generator=coin)
    given = {
        "image": torch.rand(batch, 1, *space, generator=coin),
        "labels": labels,
        "calibrated": labels,
        "weight": torch.ones(batch, annotators),
        "target": torch.rand(batch, classes, *space, generator=coin).softmax(1),
    }
    given = {name: value.to(device) for name, value in given.items()}
    return model, build.objective(cfg), given, cfg


def loss_and_gradient(method: str, size: tuple, device: str, bf16: bool) -> list[torch.Tensor]:
    """Loss and gradients in both phases, as double-precision tensors on the CPU."""
    found = []
    for late in (False, True):
        model, objective, given, cfg = problem(method, size, device)
        with torch.autocast(device, torch.bfloat16, enabled=bf16):
            out = model(given["image"])
        loss = objective(out, given, cfg.epochs if late else 0)
        loss.backward()
        grads = [p.grad for p in model.parameters() if p.grad is not None]
        flat = torch.cat([g.flatten() for g in grads])
        found += [loss.detach().reshape(1), flat]
    return [f.double().cpu() for f in found]


def agreement(write: Callable, device: str) -> None:
    """Largest difference between card and CPU, relative to the size of loss and gradient."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    for size in SMALL:
        case = f"{'×'.join(map(str, size[0]))}, {size[2]} classes"
        for method in METHODS:
            ours = loss_and_gradient(method, size, "cpu", False)
            for variant, bf16 in (("float32", False), ("bf16", True)):
                theirs = loss_and_gradient(method, size, device, bf16)
                for k, quantity in enumerate(("loss", "gradient")):
                    off = max(
                        float((a - b).norm() / a.norm())
                        for a, b in zip(ours[k::2], theirs[k::2], strict=True)
                    )
                    write("agreement", case, method, variant, quantity, off, "relative difference")
    torch.backends.cudnn.allow_tf32 = True


def limits(write: Callable, device: str) -> None:
    """Products of 8192² matrices and copies of 1 GiB: the most that a step could reach."""
    for variant, dtype, tf32 in (
        ("float32", torch.float32, False),
        ("TF32", torch.float32, True),
        ("bf16", torch.bfloat16, False),
    ):
        torch.backends.cuda.matmul.allow_tf32 = tf32
        n = 8192 if device == "cuda" else 256
        a = torch.rand(n, n, device=device, dtype=dtype)
        seconds = timed(lambda a=a: a @ a, device)
        write("limits", f"{n}²", "", variant, "arithmetic", 2e-12 * n**3 / seconds, "TFLOP/s")
    x = torch.empty(2**28 if device == "cuda" else 2**20, device=device)
    y = torch.empty_like(x)
    seconds = timed(lambda: y.copy_(x), device)
    write("limits", "copy", "", "float32", "bandwidth", 2e-9 * 4 * x.numel() / seconds, "GB/s")


def timed(step: Callable[[], Any], device: str) -> float:
    """Seconds of one call, over as many as fit into SECONDS."""
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    for _ in range(3):
        step()
    wait()
    since, count = time.perf_counter(), 0
    while time.perf_counter() - since < SECONDS:
        for _ in range(5):
            step()
        wait()
        count += 5
    return (time.perf_counter() - since) / count


def stepper(method: str, size: tuple, device: str, variant: str) -> Callable[[], Any]:
    """A function that takes one training step of the second, costlier phase."""
    model, objective, given, cfg = problem(method, size, device)
    optimiser = torch.optim.AdamW(model.parameters(), 1e-3, fused=device == "cuda")
    if variant == "compiled":
        model.trunk = torch.compile(model.trunk)

    def backward() -> torch.Tensor:
        with torch.autocast(device, torch.bfloat16, enabled="bf16" in variant):
            out = model(given["image"])
        loss = objective(out, given, cfg.epochs)
        loss.backward()
        return loss

    def eager() -> None:
        optimiser.zero_grad()
        backward()
        optimiser.step()

    if variant != "graph":
        return eager
    return replayed(optimiser, backward)


def replayed(optimiser: Any, backward: Callable[[], Any]) -> Callable[[], Any]:
    """`backward` captured as one CUDA graph, so that Python launches one thing a step."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            optimiser.zero_grad()
            backward()
    torch.cuda.current_stream().wait_stream(side)
    optimiser.zero_grad()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        backward()

    def step() -> None:
        graph.replay()
        optimiser.step()

    return step


def speed(write: Callable, device: str, variants: tuple[str, ...]) -> None:
    """Images a second and peak memory of a training step."""
    for case, size in SIZES.items():
        if device == "cpu":
            size = (tuple(s // 4 for s in size[0]), 2, *size[2:4], 8, 2)
        for variant in variants:
            for method in METHODS[:-1]:
                if variant == "compiled" and (method not in COMPILED or case == "64³"):
                    continue  # a compilation takes up to a minute
                try:
                    if device == "cuda":
                        torch.cuda.empty_cache()
                        torch.cuda.reset_peak_memory_stats()
                    seconds = timed(stepper(method, size, device, variant), device)
                except Exception as error:  # the rest is still worth having
                    print(f"{case} {method} {variant}: {type(error).__name__}: {str(error)[:200]}")
                    continue
                write("speed", case, method, variant, "images", size[1] / seconds, "1/s")
                if device == "cuda":
                    peak = torch.cuda.max_memory_allocated() / 2**30
                    write("speed", case, method, variant, "memory", peak, "GiB")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("figures/source_data"))
    parser.add_argument("--parts", nargs="+", default=["agreement", "limits", "speed"])
    parser.add_argument("--variants", nargs="+", default=["eager", "graph", "bf16", "compiled"])
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    card = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    args.out.mkdir(parents=True, exist_ok=True)
    with (args.out / "gpu.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(FIELDS)

        def write(part: str, *rest: Any) -> None:
            *words, value, unit = rest
            table.writerow((part, card, *words, f"{value:.4g}", unit))
            file.flush()
            print(part, *words, f"{value:.4g}", unit, flush=True)

        if "agreement" in args.parts:
            agreement(write, device)
        if "limits" in args.parts:
            limits(write, device)
        if "speed" in args.parts:
            speed(write, device, tuple(args.variants))


if __name__ == "__main__":
    main()
