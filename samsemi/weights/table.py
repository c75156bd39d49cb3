"""The table of published weights: where they lie, whose they are, how they are fed, and the SHA-256 by which they are known.

Each hash comes from a public source, which its row names; where none was found, there is none. Hashes of torchvision's files were also
compared with the first eight digits, which stand in the names of the files. Needs no torch.
"""

from dataclasses import dataclass
from pathlib import Path

ENCODER = "encoder:"
"""What the names of weights of encoders begin with."""
META = "https://dl.fbaipublicfiles.com"
TORCHVISION = "https://download.pytorch.org/models"
SAM_INPUT = "longest side to 1024 px, ImageNet mean and deviation, padded"
MEDSAM_INPUT = "resized to 1024 x 1024 px, scaled from its own range to [0, 1]"
SAM_2_INPUT = "resized to 1024 x 1024 px, ImageNet mean and deviation"
ENCODER_INPUT = "ImageNet mean and deviation"
MICRO_SAM = "github.com/computational-cell-analytics/micro-sam: micro_sam/util.py"
MICRO_SAM_2 = "github.com/computational-cell-analytics/micro-sam: micro_sam/v2/util.py"
MEDSAM_CHECK = "github.com/raju-sah/MedSAM-For-Skin-Segmentation: scripts/verify_checkpoints.py"
IN_NAME = "torch's rule for names of files, whose end is the beginning of the SHA-256; the rest as users of the file have recorded it"


@dataclass(frozen=True)
class KnownWeights:
    """A published file of weights."""

    name: str
    address: str
    size: int | None
    """Bytes, where they are known."""
    sha256: str | None
    license: str
    preprocessing: str
    """How an image becomes the network's input."""
    use: str
    """How it is given to a command; FILE stands for where it lies."""
    source: str
    """Where the hash comes from."""
    given_name: str = ""
    """Of the file, where the address does not end in one that tells it from others."""

    @property
    def file(self) -> str:
        return self.given_name or self.address.rpartition("/")[2]

    def use_of(self, path: Path) -> str:
        """``use`` of the file where it lies."""
        return self.use.replace("FILE", str(path))


def sam(name: str, file: str, size: int, sha256: str) -> KnownWeights:
    address, use = f"{META}/segment_anything/{file}", f"--sam {name}, which finds it by itself"
    return KnownWeights(name, address, size, sha256, "Apache-2.0", SAM_INPUT, use, MICRO_SAM)


def sam_2(name: str, size: int, sha256: str) -> KnownWeights:
    """Files of the sam2 package, which samsemi reads as transformers has them."""
    address = f"{META}/segment_anything_2/092824/sam2.1_hiera_{name}.pt"
    use = f"not read as this file: --sam hf:facebook/sam2.1-hiera-{name.replace('_', '-')} is the same model"
    return KnownWeights(f"sam2.1_{name}", address, size, sha256, "Apache-2.0", SAM_2_INPUT, use, MICRO_SAM_2)


def encoder(name: str, file: str, size: int | None, sha256: str | None) -> KnownWeights:
    """Weights that torchvision has trained on ImageNet."""
    use = f"--encoder {name} --encoder-weights FILE"
    source = IN_NAME if sha256 else ""
    return KnownWeights(ENCODER + name, f"{TORCHVISION}/{file}", size, sha256, "BSD-3-Clause", ENCODER_INPUT, use, source)


MEDSAM = KnownWeights(
    "medsam",
    "https://zenodo.org/records/10689643/files/medsam_vit_b.pth",
    375_049_145,
    "34b34b78c1d18cb8c6bf84cf9c00e135d6d6c965699f3c0e31ef1bc9dcb5be74",
    "Apache-2.0",
    MEDSAM_INPUT,
    "--sam medsam, which finds it by itself",
    MEDSAM_CHECK,
)
WEIGHTS: dict[str, KnownWeights] = {
    weights.name: weights
    for weights in (
        sam("vit_b", "sam_vit_b_01ec64.pth", 375_042_383, "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912"),
        sam("vit_l", "sam_vit_l_0b3195.pth", 1_249_524_607, "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622"),
        sam("vit_h", "sam_vit_h_4b8939.pth", 2_564_550_879, "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e"),
        MEDSAM,
        sam_2("tiny", 156_008_466, "7402e0d864fa82708a20fbd15bc84245c2f26dff0eb43a4b5b93452deb34be69"),
        sam_2("small", 184_416_285, "6d1aa6f30de5c92224f8172114de081d104bbd23dd9dc5c58996f0cad5dc4d38"),
        sam_2("base_plus", 323_606_802, "a2345aede8715ab1d5d31b4a509fb160c5a4af1970f199d9054ccfb746c004c5"),
        sam_2("large", 898_083_611, "2647878d5dfa5098f2f8649825738a9345572bae2d4350a2468587ece47dd318"),
        encoder("resnet18", "resnet18-f37072fd.pth", 46_830_571, "f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec"),
        encoder("resnet34", "resnet34-b627a593.pth", 87_319_819, "b627a593bcbe140c234610266fe4f8ae95ea42fc881d091c9b6052e6b1d0590f"),
        encoder("resnet50", "resnet50-0676ba61.pth", 102_530_333, "0676ba61b6795bbe1773cffd859882e5e297624d384b6993f7c9e683e722fb8a"),
        encoder("resnet101", "resnet101-63fe2227.pth", None, "63fe2227b86e8f1f2063f43a75c84d195911b6a0eace650907dd3dc62dd49a0a"),
        encoder("resnet152", "resnet152-394f9c45.pth", None, "394f9c45966e3651a89bbb78a48410a6755854ce4a5ab64927cf1c7247f85e58"),
        encoder(
            "mobilenet_v2", "mobilenet_v2-7ebf99e0.pth", 14_258_573, "7ebf99e03e254b273379b23edca7ec0da9f48273b23a332b93c1c99d49e86e8f"
        ),
        encoder("resnext50_32x4d", "resnext50_32x4d-7cdf4587.pth", None, None),
        encoder("vgg16_bn", "vgg16_bn-6c64b313.pth", None, None),
    )
}
"""What `samsemi weights fetch` knows by name."""
