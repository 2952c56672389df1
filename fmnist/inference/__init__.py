"""The champion answers: images in, classes out, at the prompt or over HTTP."""
