"""What is gathered of images, one after the other: rows and instances by their numbers among all."""

from __future__ import annotations

import numpy as np

from searchanything.core.types import MaskRLE
from searchanything.evaluation.asking import Vocabulary
from searchanything.evaluation.clicking import CLICKS
from searchanything.evaluation.evidence import PROMPTS, Collector
from searchanything.evaluation.observing import Features, Observation, Prompted
from searchanything.evaluation.truth import Instance, TrueImage

MASK = MaskRLE((4, 4), "0`0")
VOCABULARY = Vocabulary(("cup", "jug", "mug"), np.eye(3, dtype=np.float32), ())


def annotated(name: str, *categories: str) -> TrueImage:
    """Its last instance is a crowd."""
    return TrueImage(
        name,
        4,
        4,
        tuple(
            Instance(one, (0, 0, 1 + at, 4), 10.0 + at, MASK, one == categories[-1], {"style": f"in {one}"}, str(at))
            for at, one in enumerate(categories)
        ),
    )


def observed(ious: list[list[float]], regions: int, *, seed: int) -> Observation:
    rng, rows, instances = np.random.default_rng(seed), len(ious), len(ious[0])
    prompted = Prompted(
        rng.integers(0, rows, instances),
        *(rng.random(instances) for _ in PROMPTS),
        {name: rng.random(instances) for name in CLICKS},
    )
    features = Features(
        *(rng.random((rows, width), dtype=np.float32) for width in (5, 3)),
        {name: rng.random((rows, 3), dtype=np.float32) for name in ("tight", "wide")},
        {name: rng.integers(0, 256, (rows, 8), dtype=np.uint8) for name in ("as_shipped", "tight")},
    )
    kept, stored_bytes = rng.random((rows, 2)) < 0.5, rng.integers(50, 90, rows)
    return Observation(regions, kept, stored_bytes, np.array(ious), rng.random(instances), prompted, features)


def test_rows_and_instances_of_all_images_are_numbered_on() -> None:
    truths = [annotated("a.png", "mug", "cup"), annotated("b.png", "jug", "cup", "mug")]
    seen = [
        observed([[0.9, 0.499999], [0.5, 0.5000004], [0.1, 0.75]], 2, seed=1),
        observed([[0.2, 0.6, 0.1234567], [0.1, 0.2, 0.9876543]], 2, seed=2),
    ]
    with Collector(VOCABULARY, ("style",)) as collector:
        for number, (truth, one) in enumerate(zip(truths, seen, strict=True), start=1):
            collector.add(truth, one)
            assert (collector.images, collector.instances) == (number, (2, 5)[number - 1])
        found = collector.evidence()
    assert found.images == 2
    expected = [[0, 0, 900_000], [1, 0, 500_000], [1, 1, 500_000], [2, 1, 750_000], [3, 3, 600_000], [4, 4, 987_654]]
    assert found.matches.T.tolist() == expected
    assert found.matches.dtype == np.int64
    assert [(one.image, one.annotation, one.category) for one in found.asked] == [
        (truth.file_name, one.annotation, one.category) for truth in truths for one in truth.instances
    ]
    rows, instances = found.rows, found.instances
    assert rows.image.tolist() == [0, 0, 0, 1, 1]
    assert rows.is_region.tolist() == [True, True, False, True, True]
    features = [one.features for one in seen]
    for array, parts in (
        (rows.kept, [one.kept for one in seen]),
        (rows.stored_bytes, [one.stored_bytes for one in seen]),
        (rows.joined, [one.joined.astype(np.float16) for one in features]),
        *((rows.changed[name], [one.changed[name].astype(np.float16) for one in features]) for name in rows.changed),
        *((rows.codes[name], [one.codes[name] for one in features]) for name in rows.codes),
        *((instances.prompts[name], [getattr(one.prompted, name) for one in seen]) for name in PROMPTS),
        *((instances.clicks[name], [one.prompted.clicks[name] for one in seen]) for name in CLICKS),
        (instances.paired_iou, [one.paired_ious for one in seen]),
        (instances.row, [seen[0].prompted.rows, seen[1].prompted.rows + 3]),
    ):
        np.testing.assert_array_equal(array, np.concatenate(parts))
    assert (rows.changed.keys(), rows.codes.keys()) == ({"tight", "wide"}, {"as_shipped", "tight"})
    assert instances.image.tolist() == [0, 0, 1, 1, 1]
    assert instances.category.tolist() == [2, 0, 1, 0, 2]
    assert instances.crowd.tolist() == [False, True, False, False, True]
    assert instances.area_px.tolist() == [10, 11, 10, 11, 12]
    assert instances.longest_side_px.tolist() == [4] * 5
    levels = instances.attribute_values["style"]
    assert levels == ("in cup", "in jug", "in mug")
    assert [levels[number] for number in instances.attributes["style"]] == [
        one.attributes["style"] for truth in truths for one in truth.instances
    ]


def test_features_that_were_handed_out_are_readable_after_the_end() -> None:
    """Their file is gone by then."""
    with Collector(VOCABULARY, ()) as collector:
        one = observed([[0.9]], 1, seed=3)
        collector.add(annotated("a.png", "mug"), one)
        joined = collector.evidence().rows.joined
    np.testing.assert_array_equal(joined, one.features.joined.astype(np.float16))
