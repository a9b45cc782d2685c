"""Notes in a deployed file: what it expects of an image, what it answered when judged."""

from pathlib import Path
from xml.etree import ElementTree

from compress.utils.files import atomic


def write_metadata(path: Path, key: str, text: str) -> None:
    """Put a text into an ONNX file or an OpenVINO IR of ours, in the place of an earlier one.

    Args:
        key: "compress.input", say.
    """
    with atomic(path) as temporary:
        if path.suffix == ".xml":
            tree = ElementTree.parse(path)
            place, _, name = key.partition(".")
            noted = tree.find(f"rt_info/{place}")
            assert noted is not None  # as save_ir writes it
            for earlier in noted.findall(name):
                noted.remove(earlier)
            ElementTree.SubElement(noted, name, value=text)
            tree.write(temporary, "utf-8", xml_declaration=True)
        else:
            import onnx  # files are judged without it

            proto = onnx.load(path)
            kept = {x.key: x.value for x in proto.metadata_props if x.key != key}
            onnx.helper.set_model_props(proto, kept | {key: text})
            onnx.save(proto, temporary)
