"""Networks for one channel: as they are built, and made of ones for RGB."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import resnet18

from compress.data.input_spec import InputSpec
from compress.models.builders import build
from compress.models.candidate import Candidate
from compress.models.channels import first_convolution, for_one_channel
from compress.models.checkpoint import load_into
from compress.models.trial import check_forward
from compress.utils.errors import UserError

GREY = InputSpec(height=32, width=48, mean=(0.5,), std=(0.25,), channels="grey", classes=("a", "b"))
RGB = InputSpec(height=32, width=48, mean=(0.5,) * 3, std=(0.25,) * 3, classes=("a", "b"))
BUILDERS: dict[str, dict[str, Any]] = {
    "students.shufflenet:shufflenet_v2_x0_5": {},
    "torchvision.models:mobilenet_v3_small": {},
    "timm:vit_tiny_patch16_224": {"img_size": 32, "depth": 1},
    "timm:resnet10t": {},
}


def small(channels: int) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(channels, 4, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(4, 2),
    )  # fmt: skip


class Repeats(nn.Module):
    """Makes RGB of grey by itself, as people do to use a network for RGB."""

    def __init__(self) -> None:
        super().__init__()
        self.net = small(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.expand(-1, 1, -1, -1).repeat(1, 3, 1, 1))  # type: ignore[no-any-return]


@pytest.mark.parametrize("builder", BUILDERS)
def test_grey_is_answered_as_the_same_image_in_rgb(builder: str) -> None:
    shape = (1, 32, 32)
    made = []
    for image in (None, shape):
        torch.manual_seed(0)
        made.append(build(builder, BUILDERS[builder], 2, (), image).eval())
    images = torch.rand(3, *shape)
    with torch.no_grad():
        colour, grey = made[0](images.repeat(1, 3, 1, 1)), made[1](images)
    torch.testing.assert_close(grey, colour, atol=1e-4, rtol=1e-4)
    first = first_convolution(made[1])
    assert first is not None and first.in_channels == 1 and first.weight.requires_grad
    first.reset_parameters()  # what training from fresh weights calls
    assert first.weight.shape[1] == 1


def test_networks_that_take_grey_stay_as_they_are() -> None:
    expands = nn.Sequential(nn.Conv2d(1, 3, 1), small(3))
    for model in (small(1), Repeats(), expands):
        before = {k: v.clone() for k, v in model.state_dict().items()}
        after = for_one_channel(model, (1, 32, 32)).state_dict()
        assert all(torch.equal(after[k], v) for k, v in before.items())


def test_a_student_for_grey_is_stored_and_read(tmp_path: Path) -> None:
    made = Candidate.create("students.shufflenet:shufflenet_v2_x0_5", {}, GREY, ("s",), 0, ())
    made.save(tmp_path, {}, {})
    read = Candidate.load(tmp_path, ())
    images = torch.rand(2, *GREY.shape)
    assert read.spec == GREY
    torch.testing.assert_close(read.model(images), made.model.eval()(images))


@pytest.mark.parametrize(
    ("channels", "spec", "said"),
    [
        (1, RGB, "takes images of 1 channel, and is to get 3: say channels: grey, with mean and"),
        (3, GREY, "takes images of 3 channels, and is to get 1: say channels: rgb"),
        (4, RGB, r"takes 4 channels: images have 3 .* or 1 \(channels: grey\)"),
    ],
)
def test_other_channels_are_refused_by_name(channels: int, spec: InputSpec, said: str) -> None:
    with pytest.raises(UserError, match=f"mine:net {said}"):
        check_forward(small(channels), spec, "mine:net")


def test_weights_for_other_channels_say_so() -> None:
    for there, here, said in ((1, 3, "1 channel: say channels: grey"), (3, 1, "channels: rgb")):
        with pytest.raises(UserError, match=said):
            load_into(small(here), small(there).state_dict(), Path("w.pt"))
    other_classes = resnet18(num_classes=3).state_dict()
    with pytest.raises(UserError, match="another number of classes"):
        load_into(resnet18(num_classes=2), other_classes, Path("w.pt"))
