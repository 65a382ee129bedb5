"""Every training stage end to end, with the real scripts and the config `smoke`, on a corpus of two people."""

import json
import os
from dataclasses import fields

import joblib
import numpy as np
import pytest
import torch
import yaml
from accelerate.state import AcceleratorState, GradientState
from safetensors.torch import load_file
from tiny_speech_encoders import save_speech_network
from training_runs import in_two_processes

pytest.importorskip("espeakng_loader", reason="espeak-ng comes with `pip install espeakng-loader`")

import eat_hf  # noqa: E402
from eat_hf.animation.clip_plan import drive_keypoints  # noqa: E402
from eat_hf.animation.expression import EmotionMix, SpeechFeatures, predict_expression  # noqa: E402
from eat_hf.animation.head_pose import HeadPose  # noqa: E402
from eat_hf.animation.rendering import render_frames  # noqa: E402
from eat_hf.benchmark import BenchmarkReport, TrainingReport, describe_machine  # noqa: E402
from eat_hf.errors import UserError  # noqa: E402
from eat_hf.models.components import load_component  # noqa: E402
from training import stage_1a_enhancement as train_enhancement
from training import stage_1a_latent as train_latent
from training import stage_1a_renderer as train_renderer
from training import stage_1b_a2et as train_a2et
from training import stage_1b_pca as fit_pca
from training import stage_1b_speech as train_speech
from training import stage_2_emotion as train_emotion
from training.corpus.build import Plan, build_corpus  # noqa: E402
from training.corpus.heads import KEYPOINT_NAMES  # noqa: E402
from training.data.dataset import Corpus  # noqa: E402
from training.experiments import contact_sheet, throughput  # noqa: E402
from training.judges import train_emotion as train_emotion_judge
from training.judges import train_sync
from training.judges import train_units as train_unit_judge
from training.landmarks import train as train_landmarks
from training.loop.command_line import CONFIGS, Recipe, parse_options  # noqa: E402
from training.loop.logging import SPEED  # noqa: E402
from training.release import assemble
from training.text import train_clip
from training.text import train_mapper as train_words

# run: script, further options, components that it leaves behind
PICTURES = ["--face_weight", "2", "--sync_weight", "1", "--sync_expert", "{runs}/expert/sync_expert"]
RUNS = {
    "detector": (train_latent, ["--part", "detector"], ["keypoint_detector"]),
    "estimator": (train_latent, ["--part", "estimator"], ["motion_estimator"]),
    "motion": (train_renderer, ["--part", "motion"], ["repos_net"]),
    "renderer": (train_renderer, ["--initial", "{runs}/motion/repos_net"], ["repos_net"]),
    "enhancement": (train_enhancement, [], ["keypoint_detector", "motion_estimator", "repos_net"]),
    "speech": (train_speech, [], ["speech_encoder"]),
    "pca": (fit_pca, [], ["expression_basis"]),
    "expert": (train_sync, ["--network", "expert"], ["sync_expert"]),
    "a2et": (train_a2et, ["--runs", "{runs}"], ["a2et"]),
    "a2et_pictures": (
        train_a2et,
        ["--runs", "{runs}", "--stage", "a2et_pictures", "--initial", "{runs}/a2et/a2et", *PICTURES],
        ["a2et"],
    ),
    "emotion": (train_emotion, ["--runs", "{runs}"], ["a2et", "edn", "emotion_mapper"]),
    "emotion_pictures": (
        train_emotion,
        ["--runs", "{runs}", "--initial", "{runs}/a2et_pictures/a2et", "--frames", "6", *PICTURES],
        ["a2et", "edn", "emotion_mapper", "repos_net"],
    ),
    "syncnet": (train_sync, ["--network", "judge"], ["syncnet"]),
    "emotion_fan": (train_emotion_judge, [], ["emotion_fan"]),
}
TRAINED = [name for name in RUNS if name != "pca"]
DROPOUT = "emotion_fan"  # has dropout that no configuration turns off: its losses depend on the number of processes
STAGES = {
    "latent": train_latent.LatentOptions, "renderer": train_renderer.RendererOptions,
    "enhancement": train_enhancement.EnhancementOptions, "speech": train_speech.SpeechOptions,
    "pca": fit_pca.PCAOptions, "a2et": train_a2et.A2ETOptions,
    "a2et_pictures": train_a2et.A2ETOptions, "emotion": train_emotion.EmotionOptions,
    "adapter": train_emotion.EmotionOptions,
    "clip": train_clip.CLIPOptions, "words": train_words.WordsOptions,
    "unit_judge": train_unit_judge.UnitJudgeOptions, "landmarks": train_landmarks.LandmarkOptions,
    "sync": train_sync.SyncOptions, "emotion_judge": train_emotion_judge.EmotionJudgeOptions,
    "assemble": assemble.AssembleOptions, "sheet": contact_sheet.SheetOptions,
}  # fmt: skip
WORDS = {"text_mapper", "clip", "unit_judge", "face_landmarks"}  # beside a pipeline and its judges
JUDGES = {"sync_expert": eat_hf.SyncExpert, "syncnet": eat_hf.SyncNet, "emotion_fan": eat_hf.EmotionFAN}


def call(script, *arguments):
    """A script's main, as if from the command line. Caches of data are made here, not in processes that must start."""
    with joblib.parallel_config(backend="threading"):
        script.main(["--config", "smoke", *map(str, arguments)])


def run_stages(names, corpus, runs, outputs, *options):
    """Stages with the data and earlier stages of `corpus` and `runs`, into `outputs`, one after another."""
    for name in names:
        script, more, _ = RUNS[name]
        if "RANK" in os.environ:  # each stage is a launch of its own
            os.environ["MASTER_PORT"] = str(int(os.environ["MASTER_PORT"]) + 1)
        more = [option.format(runs=runs) for option in more]
        call(script, "--corpus", corpus, "--output_dir", outputs / name, *more, *options)
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()


def log(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Two people, one of them held out; all emotions as labels and sound, one of them in 24 pictures."""
    folder = tmp_path_factory.mktemp("corpus")
    build_corpus(Plan(folder, 2, speech_clips=1, latent_clips=10, seed=8, frames_per_clip=24, range_frames=3),
                 workers=1, progress=False)  # fmt: skip
    metadata = folder / "metadata.jsonl"
    clips = [json.loads(line) for line in metadata.read_text().splitlines()]
    for clip in clips:
        clip["split"] = ["train", "validation"][clip["identity"]]
        if clip["identity"] == 0:  # both stages that compare pictures should find some: the only clip known as neutral
            if clip["file_name"]:
                clip["emotion"], clip["level"] = "neutral", 0
            elif clip["emotion"] == "neutral":
                clip["emotion"], clip["level"] = None, None
    metadata.write_text("".join(json.dumps(clip) + "\n" for clip in clips))
    return folder


@pytest.fixture(scope="module")
def runs(corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    run_stages(RUNS, corpus, folder, folder)
    return folder


@pytest.mark.parametrize("name", RUNS)
def test_stage_trains_measures_and_saves(name, runs):
    results = json.loads((runs / name / "results.json").read_text())
    assert all(np.isfinite(value) for value in results.values() if isinstance(value, (int, float))) and len(results) > 1
    for component in RUNS[name][2]:
        weights = load_component(runs / name / component).state_dict().values()
        assert all(bool(tensor.isfinite().all()) for tensor in weights)
    if name in TRAINED:
        lines = log(runs / name)
        assert [line["step"] for line in lines] == [1, 2]
        assert all(np.isfinite(value) for line in lines for value in line.values())


def test_a2et_learns_from_an_encoder_of_transformers(corpus, tmp_path):
    """As the config official_hubert has it, which only brings the encoder along."""
    smoke, runs = Recipe.load("smoke"), tmp_path / "runs"
    smoke.build("keypoint_detector", KEYPOINT_NAMES).save_pretrained(runs / "detector" / "keypoint_detector")
    smoke.build("expression_basis").save_pretrained(runs / "pca" / "expression_basis")
    place = str(save_speech_network("hubert", tmp_path / "hubert"))
    config = tmp_path / "hubert.yaml"
    encoder = {"class": "TransformersSpeechEncoder", "pretrained": place, "layers": 1}
    a2et = {**smoke.components["a2et"], "semantic_widths": [16, 8, 8, 8, 8]}
    config.write_text(yaml.safe_dump({"base": "smoke", "components": {"speech_encoder": encoder, "a2et": a2et}}))
    for script, name in ((train_speech, "speech"), (train_a2et, "a2et")):
        more = ["--corpus", str(corpus), "--runs", str(runs)] if name == "a2et" else ["--corpus", "none"]
        with joblib.parallel_config(backend="threading"):
            script.main(["--config", str(config), "--output_dir", str(runs / name), *more])
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    kept = load_component(runs / "speech" / "speech_encoder")
    assert isinstance(kept, eat_hf.TransformersSpeechEncoder) and kept.config.classes == 16
    assert [line["step"] for line in log(runs / "a2et")] == [1, 2]
    assert load_component(runs / "a2et" / "a2et").config.semantic_widths == [16, 8, 8, 8, 8]
    published, of_hubert = (Recipe.load(name).components for name in ("official", "official_hubert"))
    assert of_hubert["speech_encoder"].keys() == encoder.keys() and of_hubert["edn"] == published["edn"]


def test_renderer_shows_pictures(runs):
    shown = sorted(path.name for path in (runs / "renderer" / "samples").iterdir())
    assert shown == ["mouth_000002.png", "pairs_000002.png"]


def test_stage_2_leaves_all_but_m_edn_and_eam_bit_identical(runs):
    before, after = (
        load_file(runs / run / "a2et" / "diffusion_pytorch_model.safetensors") for run in ("a2et", "emotion")
    )
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and all("eam" in name for name in changed)
    assert any("norm.running_mean" in name for name in before)  # statistics of batch norm are among the others


def test_pictures_teach_the_renderer_its_eam_alone(runs):
    before, after = (
        load_file(runs / run / "repos_net" / "diffusion_pytorch_model.safetensors")
        for run in ("enhancement", "emotion_pictures")
    )
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and all(name.startswith("volume_eam.") for name in changed)
    for name in ("a2et_pictures", "emotion_pictures"):
        assert {"latent", "face", "sync"} <= set(log(runs / name)[0])
        assert any(line["face"] > 0 and line["sync"] > 0 for line in log(runs / name))
    start, adapted = (
        load_file(runs / run / "a2et" / "diffusion_pytorch_model.safetensors")
        for run in ("a2et_pictures", "emotion_pictures")
    )
    assert all(torch.equal(value, adapted[name]) for name, value in start.items() if "eam" not in name)


ABLATIONS = {
    "shallow": ["--prompts", "shallow"],
    "no_prompts": ["--prompts", "none", "--data_share", "0.5"],
    "no_edn": ["--edn", "false"],
    "no_eam": ["--eam", "false"],
}


@pytest.mark.slow
def test_throughput_joins_the_page_of_the_benchmark(corpus, runs, tmp_path):
    with pytest.raises(UserError, match="Unknown stage 'flight'"):
        call(throughput, "--stages", "flight")
    BenchmarkReport("", "model", describe_machine(torch.device("cpu")), {}, 2e9, 1e9).save(tmp_path)
    names = "speech", "a2et"
    call(throughput, "--corpus", corpus, "--runs", runs, "--output", tmp_path, "--stages", *names, "--steps", "1")
    rows = TrainingReport.load(tmp_path / "training-speed.json").rows
    sizes = Recipe.load("smoke").stages
    assert [(row.stage, row.batch) for row in rows] == [(name, sizes[name]["batch_size"]) for name in names]
    assert all(row.samples_per_second > 0 and 0 < row.loader_share < 1 for row in rows)
    page = (tmp_path / "BENCHMARK.md").read_text()
    assert page.index("## model") < page.index("## Training") < page.index("| speech |")


@pytest.fixture(scope="module")
def ablations(corpus, runs, tmp_path_factory):
    """Runs of stage 2 without one of its parts, at a rate of learning that shows, and their pipelines."""
    folder = tmp_path_factory.mktemp("ablations")
    for name, options in ABLATIONS.items():
        call(train_emotion, "--corpus", corpus, "--runs", runs, "--output_dir", runs / name, "--learning_rate", "0.02",
             "--ema_decay", "0", *options)  # fmt: skip
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()
        call(assemble, "--corpus", corpus, "--runs", runs, "--output", folder / name, "--emotion", name)
    return folder


@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablated_part_does_nothing(name, runs, ablations):
    def weights(run, component):
        return load_file(runs / run / component / "diffusion_pytorch_model.safetensors")

    before, after = weights("a2et", "a2et"), weights(name, "a2et")
    changed = {tensor for tensor in before if not torch.equal(before[tensor], after[tensor])}
    assert bool(changed) == (name != "no_eam") and all("eam" in tensor for tensor in changed)
    a2et = eat_hf.A2ET.from_pretrained(runs / "a2et/a2et")
    edn = eat_hf.EDN.from_pretrained(runs / name / "edn")
    learnt = {tensor: value.clone() for tensor, value in edn.state_dict().items()}
    edn.initialise_from_a2et(a2et)
    same = all(torch.equal(value, learnt[tensor]) for tensor, value in edn.state_dict().items())
    assert same == (name == "no_edn")
    made = eat_hf.EmotionMapper.load_config(runs / name / "emotion_mapper")["prompts"]
    assert made == {"shallow": 2, "no_prompts": 1}.get(name, 3)


@torch.no_grad()
def test_pipelines_of_ablations_run_as_they_were_trained(corpus, runs, ablations):
    """The expression of a whole held-out clip, and frames of it."""
    recipe = Recipe.load("smoke")
    options, _ = parse_options(
        train_emotion.EmotionOptions, "emotion",
        ["--config", "smoke", "--corpus", str(corpus), "--runs", str(runs), "--output_dir", "out"],
    )  # fmt: skip
    data = train_emotion.load_data(options, recipe, 16)[1]
    clip = data.clips[0]
    batch = {name: value[None] for name, value in data.windows(clip, np.arange(len(clip.mel))).items()}
    picture = next(c for c in Corpus(corpus).clips(split="validation", kind="speech") if c.rendered).portrait()
    frames = {}
    for name in ABLATIONS:
        pipe = eat_hf.EATPipeline.from_pretrained(ablations / name)
        pipe.set_progress_bar_config(disable=True)
        model = train_emotion.EmotionalA2ET(
            *(kind.from_pretrained(runs / name / part) for kind, part in
              ((eat_hf.A2ET, "a2et"), (eat_hf.EmotionMapper, "emotion_mapper"), (eat_hf.EDN, "edn"))),
            eat_hf.ExpressionBasis.from_pretrained(runs / "pca/expression_basis"),
        ).eval()  # fmt: skip
        latent = torch.randn(len(pipe.emotions), 16, generator=torch.Generator().manual_seed(0))
        trained, guidance = model(batch, latent[clip.emotion][None])

        portrait = pipe.prepare_portrait(picture, align=False)
        portrait.prediction_map = data.maps[clip.identity][None]
        pose = HeadPose(*clip.angles.T, clip.translation)
        prompts = pipe.emotion_mapper(latent, torch.arange(len(latent))).prompts
        weights = torch.eye(len(latent))[[clip.emotion] * len(clip.mel)]
        speech = SpeechFeatures(clip.semantic, clip.mel, torch.zeros(len(clip.mel)))
        mix = EmotionMix((pipe.networks.own,), prompts, weights)
        found = predict_expression(pipe.networks, portrait, speech, pose, mix)
        expected = trained[0] * pipe.expression_basis.scale(portrait.canonical)
        # pose pictures are kept as bytes for training
        torch.testing.assert_close(found, expected, rtol=1e-2, atol=1e-3)
        torch.testing.assert_close(mix.guidance(), guidance)
        driving = drive_keypoints(pipe.expression_basis, portrait, pose, found)[:, :2]
        frames[name] = np.concatenate(list(render_frames(pipe.repos_net, portrait, driving, guidance)))
    names = list(frames)
    assert all(not np.array_equal(frames[a], frames[b]) for i, a in enumerate(names) for b in names[i + 1 :]), (
        "ablations look the same"
    )


def test_a_stage_2_without_anything_to_learn_is_refused(corpus, runs, tmp_path):
    with pytest.raises(UserError, match="nothing is left to learn"):
        call(train_emotion, "--corpus", corpus, "--runs", runs, "--output_dir", tmp_path, "--prompts", "none",
             "--edn", "false", "--eam", "false")  # fmt: skip


def test_pipeline_takes_the_renderer_that_pictures_taught(corpus, runs, tmp_path):
    call(assemble, "--corpus", corpus, "--runs", runs, "--output", tmp_path, "--emotion", "emotion_pictures")
    ours, taught = (
        load_file(folder / "repos_net" / "diffusion_pytorch_model.safetensors")
        for folder in (tmp_path, runs / "emotion_pictures")
    )
    assert [name for name in ours if not torch.equal(ours[name], taught[name])] == []


def test_stages_become_a_pipeline(corpus, runs, tmp_path):
    call(assemble, "--corpus", corpus, "--runs", runs, "--output", tmp_path)
    pipe = eat_hf.EATPipeline.from_pretrained(tmp_path)
    for name in RUNS["enhancement"][2]:  # not those that were taught one by one
        ours, enhanced = (
            load_file(folder / name / "diffusion_pytorch_model.safetensors")
            for folder in (tmp_path, runs / "enhancement")
        )
        assert all(torch.equal(ours[tensor], value) for tensor, value in enhanced.items())
    assert pipe.a2et.config.width == 16 and set(RUNS) - {"motion"} <= set(
        json.loads((tmp_path / "training.json").read_text())
    )


@pytest.fixture(scope="module")
def shared(corpus, runs, tmp_path_factory):
    """The stages again, on two processes."""
    folder = tmp_path_factory.mktemp("shared")
    assert in_two_processes(folder, run_stages, TRAINED, corpus, runs, folder) == []
    return folder


@pytest.fixture(scope="module")
def in_parts(corpus, runs, tmp_path_factory):
    """The stages again, on one process, which takes the shares of two one after the other."""
    folder = tmp_path_factory.mktemp("parts")
    run_stages(TRAINED, corpus, runs, folder, "--gradient_accumulation_steps", "2")
    return folder


@pytest.mark.slow  # all stages twice more; test_training_loop.py shows the same of the loop that they share
@pytest.mark.parametrize("name", TRAINED)
def test_two_processes_have_the_losses_of_one(name, in_parts, shared):
    """Of one that takes the same shares, which are all that batch norm sees on CPUs."""
    for one, two in zip(log(in_parts / name), log(shared / name), strict=True):
        assert set(one) == set(two)
        found = [[line[key] for key in one if key not in SPEED] for line in (one, two)]
        np.testing.assert_allclose(*found, rtol=0.2 if name == DROPOUT else 1e-3, atol=1e-4)


@pytest.mark.slow
def test_stages_train_in_bf16(corpus, runs, tmp_path):
    options = ["--mixed_precision", "bf16", "--gradient_accumulation_steps", "2", "--steps", "1"]
    run_stages(TRAINED, corpus, runs, tmp_path, *options)
    for name in TRAINED:
        assert all(np.isfinite(value) for line in log(tmp_path / name) for value in line.values()), name


@pytest.mark.parametrize("config", [path.stem for path in CONFIGS.glob("*.yaml")])
def test_config_has_all_stages_and_components(config):
    recipe = Recipe.load(config)
    names = eat_hf.EATPipeline.component_names()
    assert set(recipe.stages) <= set(STAGES) and {*names, *JUDGES} == set(recipe.components) - WORDS
    for stage, kind in STAGES.items():
        needed = ["--output_dir", "out"] if "output_dir" in {option.name for option in fields(kind)} else []
        options, _ = parse_options(kind, stage, ["--config", config, *needed])
        for name, value in recipe.stages.get(stage, {}).items():
            found = getattr(options, name)
            assert (list(found) if isinstance(value, list) else found) == value
    brought = {name for name in names if "pretrained" in recipe.components[name]}
    with torch.device("meta"):
        made = {name: None if name in brought else recipe.build(name, KEYPOINT_NAMES) for name in names}
        eat_hf.EATPipeline(**made)
        for name, kind in JUDGES.items():
            kind(**recipe.components[name])


def test_official_config_is_the_published_network():
    recipe = Recipe.load("official")
    for name in eat_hf.EATPipeline.component_names():  # sizes and settings are the classes' own
        with torch.device("meta"):
            built = recipe.build(name)
            assert {key: value for key, value in built.config.items() if key[0] != "_"} == {
                key: value for key, value in type(built)().config.items() if key[0] != "_"
            }
    options, _ = parse_options(STAGES["a2et"], "a2et", ["--config", "official", "--output_dir", "out"])
    assert (options.batch_size, options.frames, options.learning_rate, options.clip_norm) == (44, 10, 1e-4, 0.05)
    assert (options.latent_weight, options.pca_weight, options.ema_decay, options.weight_decay) == (10, 10, 0, 0)
