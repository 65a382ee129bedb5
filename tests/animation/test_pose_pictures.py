import torch

from eat_hf.animation.pose_pictures import pose_pictures
from eat_hf.keypoints import rotation_from_degrees


def rotation(yaw=0.0, pitch=0.0, roll=0.0):
    return rotation_from_degrees(*(torch.tensor([angle]) for angle in (yaw, pitch, roll)))


def test_the_pose_of_a_frontal_face_shows_the_box():
    # the network reads bin 33, which is frontal, as 33 degrees
    picture = pose_pictures(rotation(33, 33, 33), torch.zeros(1, 3))[0]
    assert picture.shape == (64, 64) and picture.dtype == torch.float32
    assert picture.min() == 0 and 100 < picture.max() <= 255
    assert 0.02 < (picture > 20).float().mean() < 0.3  # lines, not areas


def test_turning_and_moving_the_head_changes_the_picture():
    still, turned, moved = (
        pose_pictures(rotation(yaw), torch.tensor([[shift, 0.0, 0.0]])) for yaw, shift in ((5, 0), (25, 0), (5, 20))
    )
    assert (still - turned).abs().mean() > 1
    assert (still - moved).abs().mean() > 1


def test_each_frame_is_drawn_by_itself():
    rotations = torch.cat([rotation(30), rotation(33, 20, 31)])
    translations = torch.tensor([[0.0, 0.0, 0.0], [0.1, 0.2, 0.3]])
    pair = pose_pictures(rotations, translations)
    torch.testing.assert_close(pair[1:], pose_pictures(rotations[1:], translations[1:]))


def test_a_corner_in_the_camera_plane_does_no_harm():
    edge_on = torch.tensor([[0.0, 0.0, -100.0 + 1e-9]])  # the back square ends up almost at depth 0
    assert pose_pictures(rotation(), edge_on).isfinite().all()
