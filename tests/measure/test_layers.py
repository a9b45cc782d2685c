"""Shapes and costs of layers against torch, the table of times, and between its widths."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import mobilenet_v2, regnet_y_400mf

from compress.measure import layer_times as layers
from compress.measure.layer_times import (
    Chain,
    LayerShape,
    LayerTimes,
    chain_model,
    interpolated,
    measure_chain,
)
from compress.measure.module_shapes import layer_shapes

sizes = st.integers(1, 4)


@st.composite
def convolutions(draw: st.DrawFn) -> LayerShape:
    groups = draw(sizes)
    shape = LayerShape(
        groups * draw(sizes),
        groups * draw(sizes),
        kernel=(draw(sizes), draw(sizes)),
        stride=(draw(sizes), draw(sizes)),
        padding=(draw(st.integers(0, 2)), draw(st.integers(0, 2))),
        dilation=(draw(st.integers(1, 2)), draw(st.integers(1, 2))),
        groups=groups,
        input_size=(draw(st.integers(1, 12)), draw(st.integers(1, 12))),
    )
    assume(min(shape.output_size) > 0)
    return shape


def module_of(shape: LayerShape) -> nn.Conv2d | nn.Linear:
    if shape.is_linear:
        return nn.Linear(shape.in_channels, shape.out_channels)
    return nn.Conv2d(
        shape.in_channels,
        shape.out_channels,
        shape.kernel,
        shape.stride,
        shape.padding,
        shape.dilation,
        shape.groups,
    )


@given(convolutions())
@settings(max_examples=50, deadline=None)
def test_macs_and_sizes_are_those_of_torch(shape: LayerShape) -> None:
    with torch.device("meta"):
        module, example = module_of(shape), torch.empty(1, shape.in_channels, *shape.input_size)
    with FlopCounterMode(display=False) as counter:
        output = module(example)
    assert tuple(output.shape[2:]) == shape.output_size
    assert counter.get_total_flops() == 2 * shape.macs
    assert layer_shapes(module, example) == {"": shape}


@pytest.mark.parametrize("build", [mobilenet_v2, regnet_y_400mf])
def test_macs_of_whole_networks(build: Callable[[], nn.Module]) -> None:
    model, example = build().eval().to("meta"), torch.empty(1, 3, 64, 64, device="meta")
    with FlopCounterMode(display=False) as counter:
        model(example)
    shapes = layer_shapes(model, example)
    assert counter.get_total_flops() == 2 * sum(shape.macs for shape in shapes.values())


@pytest.mark.parametrize(("kernel", "padding"), [(3, (1, 1)), (1, (0, 0)), ((5, 3), (2, 1))])
def test_padding_by_name(kernel: int | tuple[int, int], padding: tuple[int, int]) -> None:
    for said, sides in (("same", padding), ("valid", (0, 0))):
        found = layer_shapes(nn.Conv2d(2, 4, kernel, padding=said), torch.zeros(1, 2, 9, 8))[""]
        assert found.padding == sides


def test_hooks_are_gone_after_a_network_that_fails() -> None:
    layer = nn.Conv2d(3, 4, 1)
    with pytest.raises(RuntimeError):
        layer_shapes(nn.Sequential(layer), torch.zeros(1, 2, 4, 4))
    assert not layer._forward_pre_hooks


CHAINS: dict[str, Chain] = {
    "convolution": (LayerShape(3, 8, (3, 3), (2, 2), (1, 1), input_size=(9, 8)),),
    "one direction": (LayerShape(4, 6, (1, 3), (1, 2), (0, 1), input_size=(5, 7)),),
    "dilated": (LayerShape(4, 6, (3, 3), dilation=(2, 2), input_size=(9, 9)),),
    "depthwise": (LayerShape(16, 16, (3, 3), padding=(1, 1), groups=16, input_size=(6, 6)),),
    "grouped": (LayerShape(16, 32, (3, 3), padding=(1, 1), groups=4, input_size=(6, 6)),),
    "linear": (LayerShape(12, 5),),
    "two linear": (LayerShape(12, 3), LayerShape(3, 7)),
    "tucker": (
        LayerShape(8, 4, (1, 1), input_size=(8, 8)),
        LayerShape(4, 6, (3, 3), (2, 2), (1, 1), input_size=(8, 8)),
        LayerShape(6, 9, (1, 1), input_size=(4, 4)),
    ),
}


@pytest.mark.parametrize("chain", CHAINS.values(), ids=CHAINS)
def test_a_chain_runs_and_gives_its_last_shape(chain: Chain) -> None:
    session = onnxruntime.InferenceSession(chain_model(chain).SerializeToString())
    first, last = chain[0], chain[-1]
    maps = () if first.is_linear else first.input_size
    output = session.run(None, {"input": np.ones((1, first.in_channels, *maps), np.float32)})[0]
    expected = () if last.is_linear else last.output_size
    assert output.shape == (1, last.out_channels, *expected)
    assert (output >= 0).all() and (output > 0).any()  # a ReLU at the end


@pytest.mark.parametrize("name", ["convolution", "linear", "tucker"])
def test_a_chain_takes_time(name: str) -> None:
    assert measure_chain(CHAINS[name], 1) > 0


def test_layout_changes_at_the_ends_are_not_counted() -> None:
    def event(name: str, operation: str, microseconds: float) -> dict[str, object]:
        full = f"{name}_kernel_time"
        return {"cat": "Node", "name": full, "dur": microseconds, "args": {"op_name": operation}}

    run = [
        event("a", "ReorderInput", 1000),
        event("b", "Conv", 2),
        event("c", "ReorderOutput", 30),
        event("d", "Conv", 4),
        event("e", "ReorderOutput", 1000),
    ]
    noise = [{"cat": "Session", "name": "model_run", "dur": 1e6}]
    slow_start = [{**e, "dur": 1e6} for e in run] * layers.WARM_UP
    seconds = layers._kernel_seconds([*noise, *slow_start, *run, *run], layers.WARM_UP + 2)
    assert seconds == pytest.approx(36e-6)


def formula(chain: Chain, threads: int, int8: bool = False) -> float:
    """A stand-in for measuring: any number that depends on all that is asked for."""
    return sum(s.macs + 0.1 * s.in_channels for s in chain) / threads / (4 if int8 else 1)


class Counter:
    """Counts what is measured."""

    def __init__(self) -> None:
        self.measured: list[Chain] = []

    def __call__(self, chain: Chain, threads: int, int8: bool = False) -> float:
        self.measured.append(chain)
        return formula(chain, threads, int8)


@pytest.fixture
def counter(monkeypatch: pytest.MonkeyPatch) -> Counter:
    found = Counter()
    monkeypatch.setattr(layers, "measure_chain", found)
    return found


def test_times_are_measured_once_and_kept(tmp_path: Path, counter: Counter) -> None:
    chains = list(CHAINS.values())
    expected = [formula(chain, 2) for chain in chains]
    assert LayerTimes(tmp_path, ["a"], 2).many([*chains, *chains]) == [*expected, *expected]
    assert counter.measured == chains
    assert LayerTimes(tmp_path, ["a"], 2).many(chains) == expected
    assert counter.measured == chains


def test_tables_are_of_one_machine_thread_count_and_type(tmp_path: Path, counter: Counter) -> None:
    chain = CHAINS["convolution"]
    for number, (machine, threads, int8) in enumerate(
        [("a", 1, False), ("b", 1, False), ("a", 2, False), ("a", 1, True)], 1
    ):
        found = LayerTimes(tmp_path, machine, threads).seconds(chain, int8=int8)
        assert found == formula(chain, threads, int8)
        assert len(counter.measured) == number


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"seconds": []}', '{"seconds": {"a": {}}}'])
def test_a_damaged_table_is_measured_anew(tmp_path: Path, counter: Counter, text: str) -> None:
    chain = CHAINS["linear"]
    times = LayerTimes(tmp_path, "a", 1)
    times.path.write_text(text)
    assert times.seconds(chain) == formula(chain, 1)
    assert LayerTimes(tmp_path, "a", 1).seconds(chain) == formula(chain, 1)
    assert len(counter.measured) == 1


def bend(widths: Sequence[int], width: int) -> tuple[int, int]:
    """The measured widths on both sides."""
    return max(w for w in widths if w <= width), min(w for w in widths if w >= width)


def test_between_measured_widths(tmp_path: Path, counter: Counter) -> None:
    shape = LayerShape(96, 200, (3, 3), padding=(1, 1), input_size=(4, 4))
    seconds = interpolated(LayerTimes(tmp_path, "a", 1), shape)
    points = [chain[0] for chain in counter.measured]
    assert {replace(p, in_channels=96, out_channels=200) for p in points} == {shape}
    for point in points:
        expected = formula((point,), 1)
        assert seconds(point.in_channels, point.out_channels) == pytest.approx(expected)
    outs = sorted({p.out_channels for p in points})
    below, above = bend(outs, 70)
    assert below < 70 < above
    share = (70 - below) / (above - below)
    expected = (1 - share) * seconds(96, below) + share * seconds(96, above)
    assert seconds(96, 70) == pytest.approx(expected)
    assert seconds(96, 1) == seconds(96, outs[0])


def test_a_depthwise_layer_has_one_width(tmp_path: Path, counter: Counter) -> None:
    shape = LayerShape(96, 96, (3, 3), padding=(1, 1), groups=96, input_size=(4, 4))
    seconds = interpolated(LayerTimes(tmp_path, "a", 1), shape)
    for (point,) in counter.measured:
        assert point.is_depthwise
        assert {seconds(other, point.out_channels) for other in (1, 40, 96)} == {
            formula((point,), 1)
        }


def test_a_grouped_layer_keeps_its_width(tmp_path: Path, counter: Counter) -> None:
    shape = LayerShape(96, 64, (3, 3), groups=8, input_size=(4, 4))
    seconds = interpolated(LayerTimes(tmp_path, "a", 1), shape)
    assert not shape.is_depthwise and counter.measured == [(shape,)]
    assert seconds(96, 64) == formula((shape,), 1)
