// The tab Live: sound to the server, frames from it, both played in step.
window.eatLive = (() => {
  const PIECE = 0.04; // seconds of sound in a message
  const SLACK = 0.25; // seconds by which playing waits for longer than the model's latency, at first
  const SPARE = 0.1; // seconds that a frame should be there before its moment,
  const LOOK = 3; // and seconds in which all frames were there much earlier before playing waits less
  const SLOWER = 0.9, FASTER = 0.06; // by how much the sound slows down, and speeds up, while that changes
  const MOST = 10; // seconds that playing waits at most
  const STEP = 0.08; // seconds that picture and sound may be apart
  const UNSENT = 20; // seconds of sound that the network may lag behind
  const WAITING = 300, DECODED = 8; // frames that wait for their moment, at most, and those of them that are pixels
  // samples of 16 bits, a piece after the other, each with the time of its first one on the context's clock
  const TAP = `registerProcessor("eat-tap", class extends AudioWorkletProcessor {
    constructor() {
      super();
      [this.piece, this.length] = [new Int16Array(Math.round(${PIECE} * sampleRate)), 0];
      this.port.onmessage = () => { this.give(); this.port.postMessage(null); this.over = true; };
    }
    give() {
      if (this.length) this.port.postMessage({samples: this.piece.slice(0, this.length), begin: this.begin});
      this.length = 0;
    }
    process([[samples]]) {
      if (this.over) return false;
      for (let at = 0; at < 128; at++) {
        if (!this.length) this.begin = currentTime + at / sampleRate;
        const value = Math.round(32768 * (samples?.[at] ?? 0));
        this.piece[this.length++] = Math.max(-32768, Math.min(32767, value));
        if (this.length === this.piece.length) this.give();
      }
      return true;
    }
  })`;
  const VOICE = "or choose “The voice, as if live” as sound.";
  const INSECURE = `Browsers give the microphone to pages from https and localhost alone. Open such a page, ${VOICE}`;
  const REFUSED = {
    NotAllowedError: `The browser does not give the microphone. Allow it beside the page's address, ${VOICE}`,
    NotFoundError: `There is no microphone. Connect one, ${VOICE}`,
    NotReadableError: `The microphone cannot be used now. Close other programs that use it, ${VOICE}`,
    EncodingError: "This browser cannot play that voice. Choose another recording.",
  };
  let now = null; // the session that runs

  const find = name => document.querySelector(`#live ${name}`);

  // state: idle, waiting, live or wrong
  function tell(state, text, figures = "") {
    document.querySelector("#live-tab").dataset.state = state;
    for (const [name, words] of [[".eat-live-status", text], [".eat-live-figures", figures]])
      if (find(name).textContent !== words) find(name).textContent = words;
  }

  function fail(session, text) {
    if (now === session) tell("wrong", text);
    close(session);
  }

  async function sound(session, source, voice) {
    if (source !== "voice") {
      if (!navigator.mediaDevices) throw new Error(INSECURE);
      session.stream = await navigator.mediaDevices.getUserMedia({audio: {channelCount: 1}});
      session.stream.getTracks()[0].onended = () => finish(session);
      return session.context.createMediaStreamSource(session.stream);
    }
    if (!voice) throw new Error("Give a voice first: upload or record one.");
    const node = session.context.createBufferSource();
    node.buffer = await session.context.decodeAudioData(await (await fetch(voice.url)).arrayBuffer());
    node.onended = () => finish(session);
    return node;
  }

  async function start(token, source, voice) {
    stop();
    const session = now = {context: new AudioContext(), frames: [], begin: null, newest: -1, times: [],
                           looked: 0, told: 0};
    tell("waiting", source === "voice" ? "The portrait and the voice are being read." : "Waiting for the microphone.");
    try {
      session.context.resume();
      session.node = await sound(session, source, voice);
      const module = URL.createObjectURL(new Blob([TAP], {type: "text/javascript"}));
      await session.context.audioWorklet.addModule(module);
      URL.revokeObjectURL(module);
      if (now !== session) return close(session);
      session.heard = source !== "microphone";
      const socket = session.socket = new WebSocket(new URL("live", location.href.split(/[?#]/)[0])
        .href.replace(/^http/, "ws"));
      socket.binaryType = "arraybuffer";
      socket.onopen = () => socket.send(JSON.stringify({token, sampling_rate: session.context.sampleRate}));
      socket.onmessage = ({data}) => {
        if (typeof data === "string") read(session, JSON.parse(data)); else receive(session, data);
      };
      socket.onclose = () => {
        if (session.ends === undefined) fail(session, "The connection is lost. Start again.");
      };
      tell("waiting", "The portrait is being read.");
    } catch (error) {
      fail(session, REFUSED[error.name] ?? error.message);
    }
  }

  function read(session, message) {
    if (message.type === "ready") {
      [find("canvas").width, find("canvas").height] = [message.width, message.height];
      session.fps = message.fps;
      begin(session, message.latency + SLACK);
      tell("waiting", "Speak.");
      draw(session);
    } else if (message.type === "error") {
      fail(session, message.detail);
    } else if (message.type === "finished") {
      session.ends = message.frames / session.fps;
    }
  }

  // the sound goes to the server, and as late as the frames are to the loudspeaker
  function begin(session, delay) {
    const {context, node} = session;
    session.tap = new AudioWorkletNode(context, "eat-tap", {numberOfOutputs: 0, channelCount: 1,
                                                            channelCountMode: "explicit"});
    session.tap.port.onmessage = ({data}) => hear(session, data);
    session.later = context.createDelay(MOST);
    session.later.delayTime.value = delay;
    session.wait = {from: delay, to: delay, begin: 0, end: 0};
    node.connect(session.tap);
    if (session.heard) node.connect(session.later).connect(context.destination);
    node.start?.();
  }

  function hear(session, piece) {
    if (session.closed) return;
    const {socket} = session;
    if (!piece) return socket.send('{"type": "finish"}');
    session.begin ??= piece.begin;
    if (socket.bufferedAmount > 2 * UNSENT * session.context.sampleRate)
      fail(session, "The connection, or the server, is too slow for live sound.");
    else if (socket.readyState === WebSocket.OPEN) socket.send(piece.samples.buffer);
  }

  // on the context's clock: what the loudspeaker plays was given to it a moment ago
  const clock = ({context}) => context.currentTime - (context.outputLatency || 0);

  // seconds that playing waits at a time of the context's clock
  const waited = ({wait: {from, to, begin, end}}, time) =>
    time >= end ? to : from + (to - from) * Math.max(0, time - begin) / (end - begin);

  // seconds of the sound that were heard by now
  const position = session => clock(session) - session.begin - waited(session, clock(session));

  // playing waits longer, or less, from now on; until then the sound is slower, or faster
  function wait(session, seconds) {
    const {context: {currentTime}, later: {delayTime}} = session;
    const from = waited(session, currentTime), to = Math.min(MOST, seconds);
    const end = currentTime + Math.abs(to - from) / (to > from ? SLOWER : FASTER);
    session.wait = {from, to, begin: currentTime, end};
    delayTime.cancelScheduledValues(0);
    delayTime.setValueAtTime(from, currentTime);
    delayTime.linearRampToValueAtTime(to, end);
  }

  function receive(session, data) {
    if (session.closed) return;
    const [number] = new Uint32Array(data, 0, 1);
    session.frames.push({number, file: new Blob([new Uint8Array(data, 12)], {type: "image/jpeg"})});
    while (session.frames.length > WAITING) forget(session.frames.shift());
    // the network and the server are as fast as the slowest of the last frames
    const time = clock(session), early = session.wait.to - (time - session.begin - number / session.fps);
    if (early < 0) wait(session, session.wait.to - early + SPARE);
    if (early < 0 || session.least === undefined) [session.least, session.since] = [Infinity, time];
    session.least = Math.min(session.least, early);
    if (time - session.since > LOOK) {
      if (session.least > 2 * SPARE) wait(session, session.wait.to - session.least + SPARE);
      session.least = undefined;
    }
  }

  function draw(session) {
    if (session.closed) return;
    requestAnimationFrame(() => draw(session));
    if (session.begin === null) return;
    for (const frame of session.frames.slice(0, DECODED))
      frame.decoding ??= createImageBitmap(frame.file).then(picture => {
        if (frame.forgotten) picture.close(); else frame.picture = picture;
      }, () => forget(frame));
    // a server that is busy may take its time for the first frame: nothing is played without it
    if (session.since === undefined && session.ends === undefined && position(session) > -SPARE
        && session.context.currentTime >= session.wait.end) wait(session, session.wait.to + 2 * SPARE);
    // what is drawn now is seen until the next time: the frame of the middle is the right one
    const time = position(session), middle = time + Math.min(STEP, time - session.looked) / 2;
    session.looked = time;
    let due = null;
    while (session.frames[0] && (session.frames[0].picture || session.frames[0].forgotten)
           && session.frames[0].number / session.fps <= middle) {
      if (due) forget(due);
      due = session.frames.shift();
    }
    if (due?.picture && middle - due.number / session.fps <= STEP) { // and is not shown out of step
      const first = session.newest < 0;
      session.newest = due.number;
      find("canvas").getContext("2d").drawImage(due.picture, 0, 0);
      if (first) show();
      session.times.push(time);
    }
    if (due) forget(due);
    report(session, time);
    if (time > session.ends) {
      if (now === session) tell("idle", "The voice is over.");
      close(session);
    }
  }

  // the first frame is there
  function show() {
    tell("live", "Live");
    find("canvas").scrollIntoView({block: "nearest", behavior: "smooth"});
  }

  // how late and how often frames come, once a second
  function report(session, time) {
    if (time - session.told < 1 || session.newest < 0) return;
    session.told = time;
    session.times = session.times.filter(each => each > time - 2);
    const rate = Math.min(session.fps, Math.round(session.times.length / Math.min(2, Math.max(1, time))));
    tell("live", "Live", `${session.wait.to.toFixed(1)} s behind the sound, ${rate} of ${session.fps} frames a second`);
  }

  function forget(frame) {
    frame.forgotten = true;
    frame.picture?.close();
  }

  function set(wishes) {
    if (now?.begin && now.socket.readyState === WebSocket.OPEN)
      now.socket.send(JSON.stringify({type: "set", ...wishes}));
  }

  // the sound is over: what is left of it, then the word that it is
  function finish(session) {
    if (!session.closed) session.tap?.port.postMessage(null);
  }

  function close(session) {
    session.closed = true;
    session.stream?.getTracks().forEach(track => track.stop());
    session.socket?.close();
    if (session.context.state !== "closed") session.context.close();
    session.frames.splice(0).forEach(forget);
    if (now === session) now = null;
  }

  function stop() {
    if (!now) return;
    tell("idle", "Press Start, and speak.");
    close(now);
  }

  return {start, set, stop, get session() { return now; }};
})();
