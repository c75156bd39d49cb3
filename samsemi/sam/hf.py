"""SAM, SAM-HQ, SAM 2 and SAM 3 as transformers has them: ``--sam hf:FOLDER``, or ``hf:OWNER/NAME`` of the hub.

A folder holds ``config.json``, ``preprocessor_config.json`` and weights as safetensors: what ``save_pretrained`` writes and the hub has.
Of SAM 3 it is the tracker, which takes points and boxes. Nothing is unpickled, and no code of a folder runs.
"""

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from samsemi.errors import CheckpointError, SamsemiError, UsageError
from samsemi.inputs import read_text
from samsemi.offline import need_network
from samsemi.options.sams import HF, SamEntry, hf_folder, names_hub
from samsemi.remedies import install
from samsemi.sam.cards import SamCard, need_sam, read_card
from samsemi.sam.network import NetworkSam, Sizes
from samsemi.sam.preprocessing import Preprocessing, longest_side_size, square_size
from samsemi.sam.protocol import FEATURES, SamNetwork, best_mask, of_owners
from samsemi.tensors import first_line, hash_tensors, load_strictly, load_tensors, refuse_no_weights

LOG = logging.getLogger("samsemi")
FILES = ("*.json", "*.safetensors")
"""What is downloaded of a model: nothing that would have to be unpickled."""
A_FOLDER = "give a folder with config.json, preprocessor_config.json and model.safetensors, or OWNER/NAME of one on the hub"


class HfNetwork(SamNetwork):
    """A SAM of transformers in samsemi's three parts."""

    position: Tensor
    """(1, C, h, w): of the cells of the image's embedding."""

    def __init__(self, model: Any):
        super().__init__()
        self.image_encoder, self.prompt_encoder, self.mask_decoder = model.vision_encoder, model.prompt_encoder, model.mask_decoder
        coordinates = self.prompt_encoder.shared_embedding
        if isinstance(coordinates.positional_embedding, nn.Parameter):  # SAM, SAM-HQ: random numbers that no training changes
            fixed = coordinates.positional_embedding.detach()
            del coordinates.positional_embedding
            coordinates.register_buffer("positional_embedding", fixed)
        self.register_buffer("position", model.get_image_wide_positional_embeddings().detach(), persistent=False)

    def encode(self, images: Tensor) -> dict[str, Tensor]:
        return {FEATURES: self.image_encoder(images).last_hidden_state.float()}

    def embed_prompts(self, points: tuple[Tensor, Tensor] | None, boxes: Tensor | None, masks: Tensor | None) -> tuple[Tensor, Tensor]:
        """transformers has an axis for images, and one for the prompts of an image: here all are of one image."""
        coords, labels = (points[0][None], points[1][None].int()) if points else (None, None)
        sparse, dense = self.prompt_encoder(coords, labels, None if boxes is None else boxes[None], masks)
        return sparse[0], dense.expand(sparse.shape[1], -1, -1, -1)

    def decode(self, embedding: Mapping[str, Tensor], sparse: Tensor, dense: Tensor) -> tuple[Tensor, Tensor]:
        """The single mask and the three others: transformers gives one or the other, so this runs its decoder twice."""
        outputs = [self.run_decoder(embedding, sparse, dense, three) for three in (False, True)]
        masks, predicted_iou = zip(*outputs, strict=True)
        return torch.cat(masks, dim=1), torch.cat(predicted_iou, dim=1)

    def decode_one(
        self, embedding: Mapping[str, Tensor], owner: Tensor, sparse: Tensor, dense: Tensor, three: bool
    ) -> tuple[Tensor, Tensor]:
        return best_mask(*self.run_decoder(of_owners(embedding, owner), sparse, dense, three))

    def run_decoder(self, embedding: Mapping[str, Tensor], sparse: Tensor, dense: Tensor, three: bool) -> tuple[Tensor, Tensor]:
        """(N, 1 or 3, m, m) mask logits and (N, 1 or 3) predicted IoU: each prompt has an image of its own."""
        masks, predicted_iou, *_ = self.mask_decoder(
            **self.image_inputs(embedding),
            image_positional_embeddings=self.position.expand(len(sparse), -1, -1, -1),
            sparse_prompt_embeddings=sparse[:, None],
            dense_prompt_embeddings=dense,
            multimask_output=three,
        )
        return masks[:, 0].float(), predicted_iou[:, 0].float()

    def image_inputs(self, embedding: Mapping[str, Tensor]) -> dict[str, Any]:
        """What the decoder takes of an image."""
        return {"image_embeddings": embedding[FEATURES]}

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the tensors of an embedding."""
        return {FEATURES: (self.prompt_encoder.hidden_size, *self.prompt_encoder.image_embedding_size)}


class HqNetwork(HfNetwork):
    """SAM-HQ: the decoder also sees the features of the encoder's first global block."""

    def encode(self, images: Tensor) -> dict[str, Tensor]:
        output = self.image_encoder(images)
        return {FEATURES: output.last_hidden_state.float(), "first_global": output.intermediate_embeddings[0].float()}

    def image_inputs(self, embedding: Mapping[str, Tensor]) -> dict[str, Any]:
        return {**super().image_inputs(embedding), "intermediate_embeddings": [embedding["first_global"]], "hq_token_only": False}

    def shapes(self) -> dict[str, tuple[int, ...]]:
        width = self.mask_decoder.compress_vit_conv1.in_channels
        return {**super().shapes(), "first_global": (*self.prompt_encoder.image_embedding_size, width)}


class PyramidNetwork(HfNetwork):
    """SAM 2 and the tracker of SAM 3, for single images: the decoder also sees two finer maps."""

    no_memory: Tensor
    """(1, C, 1, 1): stands for the memory that a video would have."""

    def __init__(self, model: Any):
        super().__init__(model)
        self.grids = [tuple(size) for size in model.backbone_feature_sizes]
        self.register_buffer("no_memory", model.no_memory_embedding.detach().view(1, -1, 1, 1), persistent=False)

    def encode(self, images: Tensor) -> dict[str, Tensor]:
        """Source: ``get_image_embeddings`` of transformers/models/sam2/modeling_sam2.py."""
        fine, middle, *coarse = self.image_encoder(images).fpn_hidden_states
        coarse[-1] = coarse[-1] + self.no_memory
        maps = {"fine": self.mask_decoder.conv_s0(fine), "middle": self.mask_decoder.conv_s1(middle), FEATURES: coarse[0]}
        return {name: values.float() for name, values in maps.items()}

    def image_inputs(self, embedding: Mapping[str, Tensor]) -> dict[str, Any]:
        return {**super().image_inputs(embedding), "high_resolution_features": [embedding["fine"], embedding["middle"]]}

    def shapes(self) -> dict[str, tuple[int, ...]]:
        width, (fine, middle, *_) = self.prompt_encoder.hidden_size, self.grids
        return {**super().shapes(), "fine": (width // 8, *fine), "middle": (width // 4, *middle)}


@dataclass(frozen=True)
class Family:
    """How SAMs of one kind are loaded and fed."""

    name: str
    model: str
    """Class in transformers, as is the next."""
    processor: str
    network: type[HfNetwork]
    square: bool
    """Whether images are resized to a square, and masks in one step from their own size to that of the image."""


SAM = Family("sam", "SamModel", "SamImageProcessor", HfNetwork, square=False)
SAM_HQ = Family("sam_hq", "SamHQModel", "SamImageProcessor", HqNetwork, square=False)
SAM_2 = Family("sam2", "Sam2Model", "Sam2ImageProcessor", PyramidNetwork, square=True)
SAM_3 = Family("sam3", "Sam3TrackerModel", "Sam3ImageProcessor", PyramidNetwork, square=True)
FAMILIES = {"sam": SAM, "sam_hq": SAM_HQ, "sam2": SAM_2, "sam2_video": SAM_2, "sam3_tracker": SAM_3, "sam3_video": SAM_3}
"""By ``model_type`` of config.json; those for videos hold the same parts and more."""


class HfSam(NetworkSam):
    """A SAM of transformers as a backend."""

    def __init__(self, network: HfNetwork, family: Family, identity: str, device: torch.device, precision: str, **how: Any):
        encoder = network.prompt_encoder
        sizes = Sizes(side_of(encoder), 4 * encoder.image_embedding_size[0], network.shapes())
        super().__init__(network, f"{HF}{family.name}", identity, device, sizes, precision, **how)
        self.square = family.square

    def mask_extent(self, image_size: tuple[int, int]) -> tuple[tuple[int, int], int]:
        """Of a square input the masks' own grid, so that they are resized once, as transformers does."""
        return ((self.mask_size, self.mask_size), self.mask_size) if self.square else super().mask_extent(image_size)


def side_of(prompt_encoder: Any) -> int:
    size = prompt_encoder.input_image_size
    return int(size if isinstance(size, int) else size[0])


def load_hf(entry: SamEntry, checkpoint: Path | None, device: torch.device, precision: str) -> HfSam:
    """A SAM of a folder or of the hub; with a checkpoint, which `samsemi adapt` made of it, with those weights."""
    folder = find_folder(entry.name)
    family = read_family(folder)
    transformers = import_transformers(entry.name)
    model = load_model(transformers, family, folder)
    processor = load_part(getattr(transformers, family.processor), folder)
    network = family.network(model)
    card = fill(network, Path(checkpoint), family) if checkpoint else SamCard()
    try:
        how = {name: torch.tensor(getattr(processor, name)) for name in ("image_mean", "image_std", "rescale_factor")}
    except (TypeError, ValueError, RuntimeError):
        raise CheckpointError(f"{folder}: mean, std or factor in its preprocessor_config.json are no numbers", A_FOLDER) from None
    return HfSam(
        network,
        family,
        hash_tensors({**network.state_dict(), **how}),
        device,
        precision,
        preprocessing=make_preprocessing(processor, family.square),
        masks=entry.masks,
        **card.history,
    )


def find_folder(name: str) -> Path:
    """The folder of a name, downloaded from the hub where there is none; CheckpointError where it cannot be."""
    folder = hf_folder(name)
    if folder is None and not names_hub(name):
        raise CheckpointError(f"--sam {name}: no such folder", A_FOLDER)
    return folder or fetch_folder(name.removeprefix(HF))


def fetch_folder(repository: str) -> Path:
    """The folder of a model of the hub: that in its cache, or a new download."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        with suppress(LocalEntryNotFoundError):
            folder = Path(snapshot_download(repository, allow_patterns=list(FILES), local_files_only=True))
            if is_whole(folder):
                return folder
        need_network(f"--sam {HF}{repository}, which is not in the hub's cache,", f"give --sam {HF}FOLDER, with the files of that model")
        LOG.info(f"downloading {repository} from the hub")
        return Path(snapshot_download(repository, allow_patterns=list(FILES)))
    except (MemoryError, SamsemiError):
        raise
    except Exception as error:  # of the hub's client and of what it is made of: no such name, no network, no room
        reason = f"--sam {HF}{repository} cannot be downloaded ({first_line(error):.200})"
        raise CheckpointError(reason, f"check the name and the network, or give --sam {HF}FOLDER") from None


def is_whole(folder: Path) -> bool:
    """Whether all parts of a model's weights are in a folder, whose download may have been cut."""
    index = folder / "model.safetensors.index.json"
    parts = set(json.loads(read_text(index))["weight_map"].values()) if index.is_file() else {"model.safetensors"}
    return all((folder / name).is_file() for name in {"config.json", *parts})


def read_family(folder: Path) -> Family:
    """Which SAM a folder holds, by its config.json."""
    path = folder / "config.json"
    try:
        kind = json.loads(read_text(path)).get("model_type")
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read ({first_line(error)})", A_FOLDER) from None
    if kind not in FAMILIES:
        raise CheckpointError(f"{path} is of a model of type {kind!s:.40}, no SAM that is known", f"one of {', '.join(FAMILIES)}")
    return FAMILIES[kind]


def import_transformers(name: str) -> Any:
    """transformers, or UsageError with the command that installs it."""
    try:
        import transformers
    except ImportError:
        raise UsageError(f"--sam {name} needs transformers, which is not installed", f"run: {install('hf')}") from None
    return transformers


@contextmanager
def quiet(transformers: Any) -> Iterator[None]:
    """Without the bars and notes of transformers: what counts of them is an error."""
    log = transformers.utils.logging
    verbosity, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(verbosity)
        if bars:
            log.enable_progress_bar()


def load_model(transformers: Any, family: Family, folder: Path) -> Any:
    """The model of a folder, all of its weights found, in float32 and in eval mode."""
    settings = {"use_safetensors": True, "dtype": torch.float32, "output_loading_info": True}
    with quiet(transformers):
        model, info = load_part(getattr(transformers, family.model), folder, **settings)
    missing = sorted(info["missing_keys"])
    if missing:
        raise CheckpointError(f"{folder} does not fit: {len(missing)} weights missing, such as {missing[0]}", A_FOLDER)
    state = model.state_dict()
    refuse_no_weights(state, state, str(folder))
    return model.eval()


def load_part(kind: Any, folder: Path, **settings: Any) -> Any:
    """``from_pretrained`` of a class on files that lie in a folder; CheckpointError for whatever goes wrong."""
    try:
        return kind.from_pretrained(folder, local_files_only=True, trust_remote_code=False, **settings)
    except (MemoryError, SamsemiError):
        raise
    except Exception as error:  # whatever goes wrong in reading foreign files, they are no model
        raise CheckpointError(f"{folder} holds no {kind.__name__} that can be loaded ({first_line(error):.200})", A_FOLDER) from None


def fill(network: HfNetwork, checkpoint: Path, family: Family) -> SamCard:
    """Load the weights that `samsemi adapt` wrote; their card."""
    card = read_card(checkpoint)
    need_sam(card, f"{HF}{family.name}", checkpoint, "give the SAM that it was adapted from as --sam")
    hint = f"give weights that `samsemi adapt --sam {HF}...` made of this very model"
    load_strictly(network, load_tensors(checkpoint), f"{checkpoint} as {HF}{family.name}", hint)
    return card


def make_preprocessing(processor: Any, square: bool) -> Preprocessing:
    """Images as transformers' own image processor makes them, whatever the side of the network's input."""
    mean, std = (tuple(255 * value for value in values) for values in (processor.image_mean, processor.image_std))
    sizes = square_size if square else longest_side_size
    return Preprocessing(partial(resize, processor, square), sizes, partial(normalize, mean, std))


def resize(processor: Any, square: bool, image: np.ndarray, side: int) -> np.ndarray:
    size = {"height": side, "width": side} if square else {"longest_edge": side}
    alone = {"do_pad": False, "do_rescale": False, "do_normalize": False}
    resized = processor(images=[image], size=size, **alone, input_data_format="channels_last", return_tensors="pt")["pixel_values"][0]
    return np.asarray(resized.permute(1, 2, 0))


def normalize(mean: tuple[float, ...], std: tuple[float, ...], image: Tensor) -> Tensor:
    return (image - image.new_tensor(mean).view(3, 1, 1)) / image.new_tensor(std).view(3, 1, 1)
