// What the tab Live sends, plays and draws, seen from outside its own code.
window.witness = {sent: [], frames: []};
(() => {
  const HEARD = 4096; // samples that the loudspeaker was given last
  const {send} = WebSocket.prototype;
  WebSocket.prototype.send = function (data) {
    if (typeof data !== "string") witness.sent.push(...new Int16Array(data));
    return send.call(this, data);
  };
  let ear = null;
  const {connect} = AudioNode.prototype;
  AudioNode.prototype.connect = function (to, ...rest) {
    if (to instanceof AudioDestinationNode) {
      ear = new AnalyserNode(this.context, {fftSize: HEARD});
      connect.call(this, ear);
    }
    return connect.call(this, to, ...rest);
  };
  const {drawImage} = CanvasRenderingContext2D.prototype;
  CanvasRenderingContext2D.prototype.drawImage = function (...given) {
    drawImage.apply(this, given);
    if (!this.canvas.closest("#live")) return;
    const heard = new Float32Array(ear ? HEARD : 0);
    ear?.getFloatTimeDomainData(heard);
    witness.frames.push({
      number: eatLive.session.newest, heard: [...heard], late: ear?.context.outputLatency,
      sent: witness.sent.length, rate: ear?.context.sampleRate,
      picture: this.canvas.toDataURL("image/jpeg").split(",")[1],
    });
  };
})();
