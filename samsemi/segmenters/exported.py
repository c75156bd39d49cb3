"""A network as an ONNX file: RGB from 0 to 255 in, probabilities out, so that whoever runs it has to resize and nothing else; and such a
file as a network again. Needs the extra ``onnx``."""

import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from samsemi.errors import CheckpointError
from samsemi.segmenters.segmenter import ModelSpec, Segmenter
from samsemi.tensors import first_line

IMAGE, PROBS = "image", "probs"
"""Names of the input and of the output."""
PRODUCER = "samsemi"
"""What the file says has made it, near its beginning: by this it is known."""


class Deployed(nn.Module):
    """(B, 3, size, size) float32 RGB from 0 to 255 -> (B, K, size, size) float32 probabilities, which sum to 1."""

    def __init__(self, segmenter: Segmenter):
        super().__init__()
        self.segmenter = segmenter

    def forward(self, image: Tensor) -> Tensor:
        return self.segmenter(image / 255).float().softmax(dim=1)


def write_onnx(path: Path, segmenter: Segmenter, version: str, texts: Mapping[str, str]) -> None:
    """Write a network in eval mode, on the CPU, for batches of any size, with texts as the file's metadata; CheckpointError where torch
    cannot export it."""
    size = segmenter.spec.size
    batch = {0: torch.export.Dim("batch")}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the exporter about itself
            program = torch.onnx.export(
                Deployed(segmenter).eval(),
                (torch.zeros(2, 3, size, size),),  # of a batch of one, the exporter would make one image for ever
                input_names=[IMAGE],
                output_names=[PROBS],
                dynamic_shapes={IMAGE: batch},
                dynamo=True,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        reason = first_line(error.__cause__ if isinstance(error.__cause__, Exception) else error)
        hint = "train a network of another --encoder, or with a newer torch"
        raise CheckpointError(f"torch cannot export {describe_network(segmenter.spec)} ({reason})", hint) from None
    assert program is not None, "with dynamo there is one"
    model = program.model_proto
    for part in (model.graph, *parts_of(model.graph)):
        del part.metadata_props[:]
        part.doc_string = ""
    model.producer_name, model.producer_version = PRODUCER, version
    for name, text in texts.items():
        model.metadata_props.add(key=name, value=text)
    path.write_bytes(model.SerializeToString(deterministic=True))


def parts_of(graph: Any) -> Iterator[Any]:
    """All of a graph with texts of its own, where the exporter notes lines of code and paths on this machine."""
    for parts in (graph.node, graph.input, graph.output, graph.value_info, graph.initializer):
        yield from parts


def describe_network(spec: ModelSpec) -> str:
    """'a U-Net++ with resnet34', 'unet and vnet'."""
    return " and ".join(spec.peers) or f"a U-Net++ with {spec.encoder}"


class OnnxNetwork:
    """An exported file as a SegmentationNetwork: its logits are the logarithms of its probabilities."""

    device = torch.device("cpu")

    def __init__(self, path: Path, spec: ModelSpec):
        import onnxruntime

        self.spec = spec
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = torch.get_num_threads(), 3
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def __call__(self, images: Tensor) -> Tensor:
        [probs] = self.session.run([PROBS], {IMAGE: (255 * images).round().numpy()})
        return torch.from_numpy(probs).log()
