"""The Gradio Space: a portrait, a voice and an emotion become a video. Everything is in `eat_hf.app`."""

from eat_hf.app import build_app, launch
from eat_hf.pipeline.bundled import find_model, load_pipeline

model = find_model()
demo = build_app(load_pipeline(model), model=model)

if __name__ == "__main__":
    launch(demo)
