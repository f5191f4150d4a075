"""From a trained run to an ONNX file: tracing, the graph around the model, precision, Triton."""
