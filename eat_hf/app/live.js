// The tab Live: sound to the server, frames from it, both played in step.
window.eatLive = (() => {
  const TAP = `registerProcessor("eat-tap", class extends AudioWorkletProcessor {
    process([channels]) { if (channels.length) this.port.postMessage(channels[0].slice()); return true; }
  })`;
  const PIECE = 0.04; // seconds of sound in a message
  const SLACK = 0.25, MOST = 10; // seconds: by how much more than the latency playing waits at first; how long at most
  const STEP = 0.08; // seconds that picture and sound may be apart
  const UNSENT = 20; // seconds of sound that the network may lag behind
  const WAITING = 300; // frames that wait for their moment, at most
  let now = null; // the session that runs

  const tell = text => { document.querySelector("#live .eat-live-status").textContent = text; };

  async function sound(session, source, voice) {
    if (source !== "voice") {
      session.stream = await navigator.mediaDevices.getUserMedia({audio: {channelCount: 1}});
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
    const session = now = {context: new AudioContext(), frames: [], shown: [], parts: [], length: 0, sent: 0,
                           begin: null, delay: null, dropped: 0, missed: 0, newest: -1, ready: false, over: false};
    try {
      const node = await sound(session, source, voice);
      const module = URL.createObjectURL(new Blob([TAP], {type: "text/javascript"}));
      await session.context.audioWorklet.addModule(module);
      URL.revokeObjectURL(module);
      if (now !== session) return close(session);
      const tap = new AudioWorkletNode(session.context, "eat-tap", {numberOfOutputs: 0, channelCount: 1,
                                                                    channelCountMode: "explicit"});
      session.later = session.context.createDelay(MOST + 1);
      if (source !== "microphone") node.connect(session.later).connect(session.context.destination);
      tap.port.onmessage = ({data}) => hear(session, data);
      const socket = session.socket = new WebSocket(new URL("live", location.href.split(/[?#]/)[0])
        .href.replace(/^http/, "ws"));
      socket.binaryType = "arraybuffer";
      socket.onopen = () => socket.send(JSON.stringify({token, sampling_rate: session.context.sampleRate}));
      socket.onmessage = ({data}) => typeof data === "string" ? read(session, JSON.parse(data), node, tap)
                                                              : receive(session, data);
      socket.onclose = () => { session.over = true; if (now === session && !session.told) tell("The session is over."); };
      tell("The portrait is being read.");
      draw(session);
    } catch (error) {
      tell(error.name === "NotAllowedError" ? "The microphone was not allowed." : error.message);
      close(session);
    }
  }

  function read(session, message, node, tap) {
    if (message.type === "ready") {
      const canvas = document.querySelector("#live canvas");
      [canvas.width, canvas.height] = [message.width, message.height];
      session.fps = message.fps;
      session.delay = message.latency + SLACK;
      session.later.delayTime.value = session.delay;
      session.ready = true;
      node.connect(tap);
      if (node.start) node.start();
      tell("Live.");
    } else if (message.type === "error") {
      session.told = true;
      tell(message.detail);
      close(session);
    } else if (message.type === "finished") {
      session.over = true;
    }
  }

  // samples of one moment after the other; the first of them is at `begin` of the context's clock
  function hear(session, samples) {
    if (!session.ready || session.ended) return;
    session.begin ??= session.context.currentTime;
    session.parts.push(samples);
    session.length += samples.length;
    if (session.length >= PIECE * session.context.sampleRate) send(session);
  }

  function send(session) {
    const whole = new Int16Array(session.length);
    let at = 0;
    for (const part of session.parts) for (const value of part)
      whole[at++] = Math.max(-32768, Math.min(32767, Math.round(32768 * value)));
    [session.parts, session.length] = [[], 0];
    session.sent += whole.length;
    if (session.socket.bufferedAmount > 2 * UNSENT * session.context.sampleRate) {
      session.told = true;
      tell("The connection, or the server, is too slow for live sound.");
      close(session);
    } else if (session.socket.readyState === WebSocket.OPEN) session.socket.send(whole.buffer);
  }

  function receive(session, data) {
    const [number, dropped] = new Uint32Array(data, 0, 3);
    session.dropped = dropped + session.missed;
    // a frame that comes too late moves the play of everything behind it, as far as may be
    const late = position(session) - number / session.fps;
    if (late > 0 && session.delay < MOST) {
      session.delay = Math.min(MOST, session.delay + late + 0.05);
      session.later.delayTime.setTargetAtTime(session.delay, session.context.currentTime, 0.05);
    }
    if (position(session) - number / session.fps > STEP) session.missed++; // and is not shown out of step
    else session.frames.push({number, picture: new Blob([new Uint8Array(data, 12)], {type: "image/jpeg"})});
    while (session.frames.length > WAITING) session.frames.shift();
  }

  // seconds of the sound that are played by now
  const position = session => session.context.currentTime - session.begin - session.delay;

  function draw(session) {
    if (now !== session || session.closed) return;
    requestAnimationFrame(() => draw(session));
    if (session.begin === null) return;
    let due = null;
    while (session.frames.length && session.frames[0].number / session.fps <= position(session))
      due = session.frames.shift();
    if (due) {
      createImageBitmap(due.picture).then(picture => {
        if (!session.closed && due.number > session.newest) {
          session.newest = due.number;
          document.querySelector("#live canvas").getContext("2d").drawImage(picture, 0, 0);
          session.shown.push({number: due.number, position: position(session)});
          if (session.shown.length > 500) session.shown.shift();
        }
        picture.close();
      });
      tell(session.dropped ? `Live. ${session.dropped} frames were left out: there was no time for them.` : "Live.");
    } else if (session.over && !session.frames.length) {
      if (!session.told) tell("The session is over.");
      close(session);
    }
  }

  function set(wishes) {
    if (now?.ready && now.socket.readyState === WebSocket.OPEN)
      now.socket.send(JSON.stringify({type: "set", ...wishes}));
  }

  function finish(session) {
    if (session.ended || !session.ready) return;
    if (session.length) send(session);
    session.ended = true;
    if (session.socket.readyState === WebSocket.OPEN) session.socket.send('{"type": "finish"}');
  }

  function close(session) {
    session.closed = true;
    session.stream?.getTracks().forEach(track => track.stop());
    session.socket?.close();
    if (session.context.state !== "closed") session.context.close();
    session.frames = [];
    if (now === session) now = null;
  }

  function stop() {
    if (!now) return;
    tell("Press Start, and speak.");
    close(now);
  }

  return {start, set, stop, get session() { return now; }};
})();
