"""Models for other runtimes: the bundled kind as ONNX graphs."""
