// Looks and listens at the far end's picture and sound in a page, without the page's help. It is put into every
// document before the page's own scripts, and changes nothing for them.
(() => {
  const peers = [];
  const Native = window.RTCPeerConnection;
  window.RTCPeerConnection = class extends Native {
    constructor(...given) {
      super(...given);
      peers.push(this);
    }
  };

  const base64 = (bytes) => {
    let text = "";
    for (let i = 0; i < bytes.length; i += 4096) text += String.fromCharCode(...bytes.subarray(i, i + 4096));
    return btoa(text);
  };

  let frames = [];
  let sound = [];
  let watching = 0;
  let context = null;

  const track = (kind) => {
    for (const peer of peers.toReversed()) {
      if (peer.connectionState === "closed") continue;
      const receiver = peer.getReceivers().find((r) => r.track && r.track.kind === kind && r.track.readyState === "live");
      if (receiver) return receiver.track;
    }
    return null;
  };
  // The element in which the page itself shows the far end, or none.
  const element = () => {
    const video = track("video");
    return [...document.querySelectorAll("video")].find((e) => e.srcObject && video && e.srcObject.getTracks().includes(video)) || null;
  };

  window.vinduProbe = {
    // Whether the page shows a decoded picture of the far end.
    shows: () => {
      const video = element();
      return Boolean(video && video.videoWidth > 0 && video.readyState >= 2 && track("audio"));
    },
    // Begins to keep one row of each frame (three quarters down, as RGB) and all sound (48 kHz, 16 bit).
    begin: async () => {
      const video = element();
      const mine = ++watching;
      frames = [];
      sound = [];
      const canvas = document.createElement("canvas");
      const pixels = canvas.getContext("2d", { willReadFrequently: true });
      const look = (now, about) => {
        if (mine !== watching) return;
        canvas.width = video.videoWidth;
        canvas.height = 1;
        const y = Math.floor(video.videoHeight * 3 / 4);
        pixels.drawImage(video, 0, y, canvas.width, 1, 0, 0, canvas.width, 1);
        const rgba = pixels.getImageData(0, 0, canvas.width, 1).data;
        const rgb = new Uint8Array(canvas.width * 3);
        for (let i = 0; i < canvas.width; i++) rgb.set(rgba.subarray(4 * i, 4 * i + 3), 3 * i);
        frames.push({ ms: now, presented: about.presentedFrames, width: video.videoWidth, height: video.videoHeight, row: base64(rgb) });
        video.requestVideoFrameCallback(look);
      };
      video.requestVideoFrameCallback(look);
      context = new AudioContext({ sampleRate: 48000 });
      const source = context.createMediaStreamSource(new MediaStream([track("audio")]));
      const tap = context.createScriptProcessor(4096, 1, 1);
      tap.onaudioprocess = (event) => {
        if (mine !== watching) return;
        sound.push(Int16Array.from(event.inputBuffer.getChannelData(0), (s) => Math.max(-32767, Math.min(32767, Math.round(s * 32767)))));
      };
      source.connect(tap);
      tap.connect(context.destination);
      await context.resume();
      return performance.now();
    },
    // Ends, and returns what was kept.
    end: async () => {
      watching++;
      await context.close();
      const samples = new Int16Array(sound.reduce((n, chunk) => n + chunk.length, 0));
      let at = 0;
      for (const chunk of sound) {
        samples.set(chunk, at);
        at += chunk.length;
      }
      return { endMs: performance.now(), frames, sound: base64(new Uint8Array(samples.buffer)) };
    },
    // A few numbers of the newest connection, by the names of the WebRTC statistics.
    stats: async () => {
      const peer = peers.findLast((p) => p.connectionState !== "closed");
      const result = {};
      if (!peer) return result;
      for (const report of (await peer.getStats()).values()) {
        const keep = (prefix, names) => {
          for (const name of names) if (report[name] !== undefined) result[`${prefix}.${name}`] = String(report[name]);
        };
        if (report.type === "inbound-rtp") keep(`in.${report.kind}`, ["framesDecoded", "framesDropped", "freezeCount", "packetsLost", "nackCount", "pliCount", "keyFramesDecoded", "concealedSamples", "totalSamplesReceived", "bytesReceived"]);
        if (report.type === "outbound-rtp") keep(`out.${report.kind}`, ["framesEncoded", "frameWidth", "frameHeight", "framesPerSecond", "qualityLimitationReason", "bytesSent"]);
        if (report.type === "transport") keep("transport", ["dtlsState", "tlsVersion", "dtlsCipher", "srtpCipher", "iceState"]);
      }
      return result;
    },
  };
})();
