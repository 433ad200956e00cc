import numpy as np
import torch
from tally.checkpoints import save
from tally.evaluate import Bench, Examiner, Split, evaluate, load_split, scaled
from tally.models.clip import encode_image


def test_hits_are_those_of_a_loop_over_images(tiny_weights, tiny_clip, tiny_model, colours):
    images, labels = colours
    head = torch.randn(2, 16, generator=torch.Generator().manual_seed(0))
    hits = Examiner(tiny_model, batch=7).hits(tiny_weights, head, Split(images, labels))
    one_by_one = [
        (encode_image(tiny_weights, tiny_clip, i[None]) @ head.T).argmax().item() == y for i, y in zip(images, labels)
    ]
    np.testing.assert_array_equal(hits, one_by_one)


def test_margins_of_tasks_that_share_a_batch_are_those_of_each_image_alone(
    tiny_weights, tiny_clip, tiny_model, colours
):
    images, labels = colours
    heads = [torch.randn(3, 16, generator=torch.Generator().manual_seed(i)) for i in range(3)]
    lengths = [11, 0, len(labels) - 11]
    margins = Examiner(tiny_model).margins(tiny_weights, images, list(zip(heads, labels.split(lengths))))
    expected = []
    for image, label, head in zip(images, labels, [h for h, n in zip(heads, lengths) for _ in range(n)]):
        logits = (encode_image(tiny_weights, tiny_clip, image[None]) @ head.T)[0].tolist()
        expected.append(logits.pop(label) - max(logits))
    np.testing.assert_allclose(margins, expected, atol=1e-5)


def test_inputs_are_read_when_they_are_touched(tmp_path, colours):
    images, labels = colours
    save(tmp_path / "a", {"val.inputs": images.numpy(), "val.labels": labels.numpy()}, "data")
    split = load_split(tmp_path / "a", "val")
    assert (split.inputs == images).all()
    assert (split.labels == labels).all()
    content = (tmp_path / "a").read_bytes()
    at = content.index(images.numpy().tobytes())
    with open(tmp_path / "a", "r+b") as file:
        file.seek(at)
        file.write(bytes([images.flatten()[0] ^ 255]))
    assert split.inputs.flatten()[0] == images.flatten()[0] ^ 255  # no copy was made


def test_scaled_is_the_base_at_zero_and_the_sum_at_one():
    base, tau = {"w": np.float32([1, 2])}, {"w": np.float32([0.5, -2])}
    np.testing.assert_array_equal(scaled(base, tau, 0.0)["w"], base["w"])
    np.testing.assert_array_equal(scaled(base, tau, 1.0)["w"], base["w"] + tau["w"])


def test_evaluate_agrees_with_the_full_grid(tiny_weights, tiny_model, colours):
    images, labels = colours
    rng = np.random.default_rng(0)
    base = {name: w.numpy() for name, w in tiny_weights.items() if name.startswith("visual.")}
    tau = {name: rng.normal(0, 0.1, w.shape).astype(np.float32) for name, w in base.items()}
    heads = {task: torch.randn(2, 16, generator=torch.Generator().manual_seed(i)) for i, task in enumerate("ab")}
    val = {"a": Split(images[:30], labels[:30]), "b": Split(images[30:], labels[30:])}
    test = {"a": Split(images[30:], labels[30:]), "b": Split(images[:30], labels[:30])}
    examiner, reference, alphas = Examiner(tiny_model), {"a": 0.8, "b": 0.9}, [0.25, 0.5, 1.0]

    found = evaluate(examiner, Bench(heads, val, test), base, tau, alphas, reference)

    def accuracy(alpha, splits):
        model = examiner.cast(scaled(base, tau, alpha))
        return {t: examiner.hits(model, heads[t], splits[t]).mean() for t in splits}

    scores = [np.mean([acc / reference[t] for t, acc in accuracy(alpha, val).items()]) for alpha in alphas]
    assert found["alpha"] == alphas[int(np.argmax(scores))]
    assert [row["alpha"] for row in found["search"]] == alphas
    for task, acc in accuracy(found["alpha"], test).items():
        assert found["test"][task]["correct"] / found["test"][task]["total"] == acc
