import numpy as np
from rendered import look, render

from gld_ros.errors import Status
from gld_ros.synthesis.clouds import clouds_of
from gld_ros.synthesis.types import GENERATED, OBSERVED, UNKNOWN, SynthesizedView


def synthesised(camera, provenance, status=Status.OK):
    made = render(camera)
    depth = np.where(provenance == UNKNOWN, np.nan, made.depth).astype(np.float32)
    confidence = np.full(depth.shape, 0.5, np.float32)
    return SynthesizedView(camera, status, "", made.rgb, made.rgb, depth, confidence, provenance)


def test_points_go_where_their_provenance_says():
    provenance = np.full((84, 112), UNKNOWN, np.uint8)
    provenance[:10], provenance[10:30] = OBSERVED, GENERATED
    view = synthesised(look(0.0), provenance)
    observed, generated = clouds_of([view], [None])
    assert (len(observed.xyz), len(generated.xyz)) == (10 * 112, 20 * 112)
    assert np.array_equal(observed.rgb, view.rgb[:10].reshape(-1, 3))
    assert np.allclose(observed.xyz[:, 2], view.depth[:10].ravel(), atol=1e-5)
    assert (generated.confidence == 0.5).all()


def test_only_generated_points_are_carved():
    provenance = np.full((84, 112), OBSERVED, np.uint8)
    provenance[:, 56:] = GENERATED
    through = np.zeros((84, 112), bool)
    through[:42] = True
    observed, generated = clouds_of([synthesised(look(0.0), provenance)], [through])
    assert (len(observed.xyz), len(generated.xyz)) == (84 * 56, 42 * 56)


def test_failed_views_give_no_points_and_several_views_are_joined():
    provenance = np.full((84, 112), OBSERVED, np.uint8)
    views = [synthesised(look(x), provenance, s) for x, s in ((0, Status.OK), (1, Status.NO_OVERLAP), (2, Status.OK))]
    assert len(clouds_of(views, [None] * 3)[0].xyz) == 2 * 84 * 112
    empty = clouds_of(views[1:2], [None])
    assert [len(c.xyz) for c in empty] == [0, 0]
    assert empty[0].xyz.shape == (0, 3)
