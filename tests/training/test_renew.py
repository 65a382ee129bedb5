"""Networks that were trained anew, in a finished pipeline with adapters."""

import json

import pytest
import torch
from training_runs import make_smoke_base

from eat_hf import EATPipeline, StreamingSpeechEncoder
from eat_hf.adapters.emotion_adapter import CONFIG, EmotionAdapter
from eat_hf.errors import UserError
from eat_hf.models.components import load_component
from training.release.precision import keep_in
from training.release.renew import RenewOptions, renew


@pytest.fixture(scope="module")
def renewed(tmp_path_factory):
    """A model with a new renderer, an adapter that was made for the old one, and both as they were."""
    folder = tmp_path_factory.mktemp("base")
    old = EATPipeline.from_pretrained(make_smoke_base(folder))
    adapter = EmotionAdapter.create(old.base, ["grin"], "happy")
    for part in adapter.parts.values():
        for parameter in part.parameters():
            torch.nn.init.normal_(parameter)
    adapter.save(folder / "adapter")
    card = (folder / "adapter" / "README.md").read_text() + "by hand"
    (folder / "adapter" / "README.md").write_text(card)
    new = load_component(folder / "repos_net")
    for parameter in new.parameters():
        torch.nn.init.normal_(parameter)
    new.save_pretrained(folder / "new")
    renew(RenewOptions(model=str(folder), repos_net=str(folder / "new"), adapters=[str(folder / "adapter")]))
    return folder, old, adapter, new


def test_the_renderer_is_the_new_one_without_emotion(renewed):
    folder, old, _, new = renewed
    now = load_component(folder / "repos_net").state_dict()
    for name, tensor in new.state_dict().items():
        if name.startswith("volume_eam.expand"):
            assert not now[name].any()
        elif not name.startswith("volume_eam"):
            torch.testing.assert_close(now[name].float(), tensor.float(), atol=0, rtol=1e-3)  # kept in half precision
    for name in ("a2et", "edn"):
        before = getattr(old, name).state_dict()
        assert all(
            torch.equal(tensor, before[key]) for key, tensor in load_component(folder / name).state_dict().items()
        )


def test_adapters_go_along(renewed):
    folder, _, adapter, _ = renewed
    pipe = EATPipeline.from_pretrained(folder)
    assert pipe.load_adapter(folder / "adapter") == "grin" and "grin" in pipe.emotions
    for name, tensor in pipe.adapters["grin"].tensors().items():
        if name.startswith("repos_net.volume_eam.expand"):
            assert not tensor.any()
        elif not name.startswith("repos_net"):
            torch.testing.assert_close(tensor.float(), adapter.tensors()[name].float(), atol=1e-3, rtol=1e-3)
    assert (folder / "adapter" / "README.md").read_text().endswith("by hand")


def test_other_keypoints_are_refused_and_nothing_is_changed(renewed, tmp_path):
    folder = renewed[0]
    config = json.loads((folder / "motion_estimator" / "config.json").read_text())
    other = type(load_component(folder / "motion_estimator"))(
        **{key: value for key, value in config.items() if not key.startswith("_")} | {"keypoints": 7}
    )
    other.save_pretrained(tmp_path / "other")
    before = contents(folder)
    with pytest.raises(UserError, match="has 7 keypoints, the model 42"):
        renew(RenewOptions(model=str(folder), repos_net=str(folder / "new"), motion_estimator=str(tmp_path / "other")))
    assert contents(folder) == before


def test_a_mistake_in_the_last_adapter_leaves_everything_as_it_was(renewed, tmp_path):
    folder, _, adapter, _ = renewed
    adapter.save(tmp_path / "stranger")
    config = json.loads((tmp_path / "stranger" / CONFIG).read_text())
    config["base_fingerprint"] = dict.fromkeys(config["base_fingerprint"], "0" * 16)
    (tmp_path / "stranger" / CONFIG).write_text(json.dumps(config))
    before = contents(folder)
    with pytest.raises(UserError, match="another model|made for"):
        renew(
            RenewOptions(
                model=str(folder),
                repos_net=str(folder / "new"),
                adapters=[str(folder / "adapter"), str(tmp_path / "stranger")],
            )
        )
    assert contents(folder) == before


def contents(folder) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_speech_encoder_of_another_class_takes_the_place_of_the_old_one(renewed, tmp_path):
    folder = renewed[0]
    StreamingSpeechEncoder(bands=8, width=8, blocks=1).save_pretrained(tmp_path / "new")
    renew(RenewOptions(model=str(folder), speech_encoder=str(tmp_path / "new"), adapters=[str(folder / "adapter")]))
    pipe = EATPipeline.from_pretrained(folder)
    assert type(pipe.speech_encoder) is StreamingSpeechEncoder and pipe.speech_encoder.config.width == 8
    assert pipe.load_adapter(folder / "adapter") == "grin"


def test_numbers_too_large_for_half_precision_are_named_not_stored_as_infinite():
    network = torch.nn.BatchNorm1d(2)
    network.running_var.fill_(70_000)
    with pytest.raises(UserError, match="running_var of judge does not fit into half precision"):
        keep_in(True, network, "judge")
    network = torch.nn.BatchNorm1d(2)
    network.running_var.fill_(60_000)
    keep_in(True, network, "judge")
    assert network.running_var.dtype == torch.float16 and network.running_var.isfinite().all()
