"""Segment an image with a network that `samsemi export` wrote: python onnx_predict.py model.onnx image.png mask.png

Needs onnxruntime, numpy and pillow, and nothing else. The mask has the size of the image, and class indices; images are of 8 bits.
"""

import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


def segment(session: onnxruntime.InferenceSession, image: Image.Image) -> np.ndarray:
    """(H, W) uint8 class indices of an RGB image."""
    size = session.get_inputs()[0].shape[-1]
    pixels = np.asarray(image.resize((size, size), Image.Resampling.BILINEAR), dtype=np.float32)
    [probs] = session.run(["probs"], {"image": pixels.transpose(2, 0, 1)[None]})
    step = (size / image.width, 0, 0, 0, size / image.height, 0)  # from a pixel of the image to the next, in pixels of the map
    maps = [Image.fromarray(m).transform(image.size, Image.Transform.AFFINE, step, Image.Resampling.BILINEAR) for m in probs[0]]
    return np.stack(maps).argmax(axis=0).astype(np.uint8)


if __name__ == "__main__":
    model, source, target = sys.argv[1:]
    image = ImageOps.exif_transpose(Image.open(source)).convert("RGB")
    Image.fromarray(segment(onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]), image)).save(target)
