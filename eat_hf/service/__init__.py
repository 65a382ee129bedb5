"""`eat-hf serve`: videos over HTTP and live faces over WebSocket, for programs. Needs the extra `eat_hf[serve]`."""
