"""The paper between the networks, about a file a step: tensors only, no files and no Hub."""
