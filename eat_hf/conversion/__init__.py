"""Released checkpoints become folders for the Hub; the only code that reads pickles."""
