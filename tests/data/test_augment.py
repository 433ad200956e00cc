import numpy as np
import torch
from PIL import Image
from tally.data.augment import MOVED, cropped, cropping
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F
from torchvision.transforms.transforms import RandomResizedCrop


def pictures(n, size):
    smooth = np.random.default_rng(0).integers(0, 256, (n, 3, 4, 4), dtype=np.uint8)
    return torch.nn.functional.interpolate(torch.from_numpy(smooth), size=(size, size), mode="bicubic", antialias=True)


def test_a_crop_is_torchvisions_of_the_same_picture():
    images, rng = pictures(4, 32), np.random.default_rng(1)
    boxes = cropping(32).draw(4, rng)
    for image, box, ours in zip(images, boxes.T.tolist(), cropped(images, boxes)):
        picture = Image.fromarray(image.permute(1, 2, 0).numpy())
        theirs = np.asarray(F.resized_crop(picture, *box, size=[32, 32], interpolation=InterpolationMode.BICUBIC))
        assert np.abs(ours.permute(1, 2, 0).numpy().astype(int) - theirs).max() <= 1  # of 255: the order of rounding


def test_boxes_are_spread_as_torchvisions():
    n, size = 4000, 224
    top, left, height, width = cropping(size).draw(n, np.random.default_rng(0)).numpy()
    assert min(top.min(), left.min()) == 0
    assert max((top + height).max(), (left + width).max()) == size
    area = height * width / size**2
    assert area.min() > 0.89
    torch.manual_seed(0)
    image = torch.empty(3, size, size)
    theirs = np.array([RandomResizedCrop.get_params(image, (0.9, 1.0), (3 / 4, 4 / 3)) for _ in range(n)])
    for mine, his in zip((top, left, height, width), theirs.T):
        assert abs(mine.mean() - his.mean()) < 4 * np.hypot(mine.std(), his.std()) / n**0.5
    whole = (height == size) & (width == size)  # every try was outside
    assert abs(whole.mean() - (theirs[:, 2:] == size).all(axis=1).mean()) < 0.03


def test_a_box_of_everything_changes_nothing():
    images = pictures(2, 32)
    whole = torch.tensor([[0, 0], [0, 0], [32, 32], [32, 32]])
    torch.testing.assert_close(cropped(images, whole), images, atol=0, rtol=0)


def test_the_changes_of_a_batch_can_be_made_in_pieces():
    images = pictures(6, 32)
    for augment in (MOVED, cropping(32)):
        drawn = augment.draw(6, np.random.default_rng(2))
        whole = augment.apply(images, drawn)
        pieces = [augment.apply(images[part], drawn[..., part]) for part in (slice(0, 2), slice(2, 6))]
        torch.testing.assert_close(torch.cat(pieces), whole, atol=0, rtol=0)
        assert whole.shape == images.shape
        assert whole.dtype == torch.uint8
