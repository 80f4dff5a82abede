"""Image sets: folders, label tables, arrays, IDX, Parquet, folders of ``datasets``, and sets by name.

``read_images(source)`` recognises the form and returns an ``ImageDataset``: images that are decoded when they are asked
for, labels, class names and stable ids. ``write_images`` writes images back without loss in the form they came in.
"""

from paperworks.inputs.images.dataset import BrokenImage, ImageDataset
from paperworks.inputs.images.idx import read_idx, write_idx
from paperworks.inputs.images.named import NAMED, Images, fashion_mnist, mnist
from paperworks.inputs.images.pixels import IMAGE_SUFFIXES, StoredImage, as_batch, decode_image
from paperworks.inputs.images.read import read_images
from paperworks.inputs.images.write import WrittenImages, encode_image, write_images

__all__ = [
    "IMAGE_SUFFIXES",
    "NAMED",
    "BrokenImage",
    "ImageDataset",
    "Images",
    "StoredImage",
    "WrittenImages",
    "as_batch",
    "decode_image",
    "encode_image",
    "fashion_mnist",
    "mnist",
    "read_idx",
    "read_images",
    "write_idx",
    "write_images",
]
