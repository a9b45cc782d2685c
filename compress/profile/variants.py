"""What the audit tries: the same network in other settings and runtimes."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compress.measure.processes import Timed
from compress.profile.audit import Change
from compress.profile.target import FILES, Built
from compress.results.schema import Machine
from compress.runtimes import runtime_for

if TYPE_CHECKING:
    from compress.models.candidate import Candidate

ROUNDS = "rounds to 3 digits"  # what bfloat16 does
FEWER = 4  # times fewer proposals


def candidate_of(network: Built, **more: Any) -> "Candidate":
    """Return the network as the exporter takes it; `more` are further settings of its builder."""
    from compress.models.candidate import Candidate
    from compress.models.provenance import Provenance

    settings, past = network.settings | more, Provenance((network.builder,))
    return Candidate(network.model, network.builder, settings, network.spec, past)


def saved_in(folder: Path, network: Built, **more: Any) -> Path:
    """Write a file that a fresh process loads the network from."""
    from compress.models.provenance import FILE

    folder.mkdir()
    candidate_of(network, **more).save(folder, {}, {})
    return folder / FILE


def in_torch(here: Machine, saved: Path) -> list[Change]:
    """Return another memory layout and another precision."""
    changes = [Change("channels_last in torch", Timed(saved, "torch"))]
    if here.has_bfloat16:
        file = Timed(saved, "torch-bf16")
        changes.append(Change("channels_last and bfloat16 in torch", file, but=ROUNDS))
    return changes


def other_runtimes(here: Machine, file: Path, runtime: str) -> list[Change]:
    """Return OpenVINO, where it is installed and not what the file runs in anyway."""
    changes = []
    if "openvino" in here.versions:
        if runtime != "openvino":
            changes.append(Change("in OpenVINO", Timed(file, "openvino")))
        if here.has_bfloat16:
            rounded = Timed(file, "openvino-bf16")
            changes.append(Change("in OpenVINO with bfloat16", rounded, but=ROUNDS))
    return changes


def cascade_variants(here: Machine, pipeline: Path, folder: Path) -> list[Change]:
    """Return a pipeline with all networks in another runtime, where its files can run there.

    Args:
        folder: for a pipeline each, which links to the networks.
    """
    from compress.cascade.spec import CascadeSpec

    spec = CascadeSpec.load(pipeline)
    kinds = {Path(stage.model).suffix for stage in spec.stages}
    if not kinds <= set(FILES):  # torch's weights run in torch alone
        return []
    used = {stage.runtime or runtime_for(Path(stage.model)) for stage in spec.stages}
    changes = other_runtimes(here, pipeline, "as the folder says")
    if kinds == {".onnx"}:
        changes.append(Change("in onnxruntime", Timed(pipeline, "onnxruntime")))
    found = []
    for change in changes:
        runtime = change.timed.runtime
        if used == {runtime}:
            continue
        place = folder / runtime
        place.mkdir()
        (place / "networks").symlink_to(pipeline.resolve(), target_is_directory=True)
        stages = [
            stage.model_copy(update={"model": f"networks/{stage.model}", "runtime": runtime})
            for stage in spec.stages
        ]
        spec.model_copy(update={"stages": tuple(stages)}).save(place)
        found.append(replace(change, timed=Timed(place, runtime)))
    return found


def fewer_proposals(network: Built, folder: Path) -> list[Change]:
    """Return a detector with region proposals that passes fewer of them on to its heads."""
    rpn: Any = getattr(network.model, "rpn", None)
    if rpn is None:
        return []
    fewer = rpn.post_nms_top_n() // FEWER
    file = Timed(saved_in(folder, network, rpn_post_nms_top_n_test=fewer), "torch-contiguous")
    says = f"with {fewer} proposals instead of {rpn.post_nms_top_n()}"
    return [Change(says, file, but="may miss objects")]
