"""What a clip is made of, a file an input: sound, faces, emotions, head motion."""
