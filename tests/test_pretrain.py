import torch
from tally.models.clip import encode_image, encode_text
from tally.models.words import Words
from tally.pretrain import augment, initial_weights, pretrain


def test_images_find_their_captions(tiny_folder, tiny_clip, colours):
    import numpy as np

    images, labels = colours
    captions = [("red circle", "blue square")[y] for y in labels]
    words = Words(["red", "blue", "circle", "square"], size=64)
    weights = initial_weights(tiny_folder / "open_clip_config.json", seed=0)
    trained = pretrain(
        weights, tiny_clip, words, images, captions, steps=30, batch=32, lr=3e-3, warmup=3, weight_decay=0.1, seed=0
    )
    tokens = torch.from_numpy(words.batch([words.encode(t) for t in ("red circle", "blue square")], tiny_clip.context))
    logits = encode_image(trained, tiny_clip, images) @ encode_text(trained, tiny_clip, tokens).T
    assert np.mean((logits.argmax(1) == labels).numpy()) > 0.95


def test_augment_moves_but_keeps_the_format(colours):
    import numpy as np

    images, _ = colours
    seen = augment(images, np.random.default_rng(0))
    assert seen.shape == images.shape
    assert seen.dtype == torch.uint8
    assert torch.equal(seen, augment(images, np.random.default_rng(0)))
    assert not torch.equal(seen, images)
