// One utterance: spectrogram, codes, weights, and a cursor that runs over them.
const RIBBON = 30;
const CURVES = 130;
const AXIS = 18;
const FRAME = 5;  // pixels, at least
const GAP = 0.05;  // seconds of silence between pieces
const view = { utterance: null, frame: 0, group: 0, hidden: new Set(), codeOn: false };
const sounds = new Map();
let context = null;
let playing = null;

function show(utterance) {
  Object.assign(view, { utterance, frame: 0, group: 0, codeOn: false });
  get("heading").textContent = utterance.id;
  get("verdict").textContent = inWords(utterance);
  get("verdict").className = isRight(utterance) ? "right" : "wrong";
  if (utterance.seconds < utterance.whole) {
    get("verdict").append(` (the first ${utterance.seconds.toFixed(1)} of ${utterance.whole.toFixed(1)} seconds)`);
  }
  get("spectrogram").src = utterance.spectrogram;
  get("stage").setAttribute("aria-valuemax", utterance.codes.length);
  view.hidden = new Set();
  toggles(get("curves"), Object.keys(utterance.weights), (place) => {
    const swatch = element("span", null, { class: "swatch" });
    swatch.style.background = PALETTE[place % PALETTE.length];
    return swatch;
  }, (place, on) => { view.hidden[on ? "delete" : "add"](place); redraw(); });
  gutter();
  describe();
  get("status").textContent = "";
  redraw();
}

const groups = () => view.utterance.codes[0].length;

function gutter() {
  const named = [["0 to 8 kHz", 75]];
  for (let g = 0; g < groups(); g += 1) named.push([`codebook ${g + 1}`, 170 + RIBBON * (g + 0.2)]);
  named.push(["weight", 170 + RIBBON * groups() + CURVES / 2 - 10]);
  document.querySelector(".gutter").replaceChildren(...named.map(([text, top]) => {
    const label = element("span", text);
    label.style.top = `${top}px`;
    return label;
  }));
}

function prepared(canvas, width, height) {
  const ratio = devicePixelRatio || 1;
  canvas.style.height = `${height}px`;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const pen = canvas.getContext("2d");
  pen.scale(ratio, ratio);
  return pen;
}

function redraw() {
  if (!view.utterance) return;
  const frames = view.utterance.codes.length;
  const stage = get("stage");
  stage.style.width = `${Math.max(stage.parentElement.clientWidth - 6, Math.min(frames * FRAME, 8000))}px`;
  const width = stage.clientWidth;
  const step = (width * state.set.hop) / view.utterance.seconds;
  drawRibbons(prepared(get("ribbons"), width, RIBBON * groups()), step);
  drawWeights(prepared(get("weights"), width, CURVES + AXIS), step, width);
  moveCursor();
}

function drawRibbons(pen, step) {
  const codes = view.utterance.codes;
  const marked = codes[view.frame][view.group];
  pen.font = "11px system-ui, sans-serif";
  pen.textAlign = "center";
  pen.textBaseline = "middle";
  for (let g = 0; g < groups(); g += 1) {
    for (let start = 0, end; start < codes.length; start = end) {
      end = start + 1;
      while (end < codes.length && codes[end][g] === codes[start][g]) end += 1;
      const code = codes[start][g];
      const shade = (code * 0.618034) % 1;
      pen.globalAlpha = view.codeOn && !(g === view.group && code === marked) ? 0.25 : 1;
      pen.fillStyle = `hsl(${shade * 360} 50% ${shade < 0.5 ? 40 : 62}%)`;
      pen.fillRect(start * step, g * RIBBON + 2, Math.max((end - start) * step - 0.7, 0.7), RIBBON - 4);
      if ((end - start) * step > 7 * String(code).length + 3) {
        pen.fillStyle = shade < 0.5 ? "#ffffff" : "#000000";
        pen.fillText(code, ((start + end) * step) / 2, g * RIBBON + RIBBON / 2);
      }
    }
  }
  pen.globalAlpha = 1;
  if (view.codeOn || document.activeElement === get("stage")) {
    pen.strokeStyle = colour("--mark");
    pen.lineWidth = 2;
    pen.strokeRect(view.frame * step, view.group * RIBBON + 1, Math.max(step, 2), RIBBON - 2);
  }
}

function drawWeights(pen, step, width) {
  const curves = Object.values(view.utterance.weights);
  const top = Math.max(...curves.filter((_, k) => !view.hidden.has(k)).flat(), 1) * 1.08;
  const height = (weight) => CURVES - (weight / top) * (CURVES - 6);
  pen.strokeStyle = colour("--line");
  pen.fillStyle = colour("--quiet");
  pen.font = "11px system-ui, sans-serif";
  const tick = [0.1, 0.2, 0.5, 1, 2].find((each) => (each / view.utterance.seconds) * width > 45) || 5;
  for (let k = 0; k * tick < view.utterance.seconds; k += 1) {
    const x = ((k * tick) / view.utterance.seconds) * width;
    pen.beginPath();
    pen.moveTo(x, 0);
    pen.lineTo(x, CURVES);
    pen.stroke();
    pen.fillText(`${Number((k * tick).toFixed(1))} s`, x + 2, CURVES + 13);
  }
  pen.textAlign = "right";
  pen.fillText("1", width - 2, height(1) - 4);
  pen.textAlign = "left";
  curves.forEach((weights, k) => {
    if (view.hidden.has(k)) return;
    pen.strokeStyle = PALETTE[k % PALETTE.length];
    pen.lineWidth = 2;
    pen.setLineDash(k % 2 ? [] : [5, 3]);
    pen.beginPath();
    weights.forEach((weight, t) => {
      pen.lineTo(t * step, height(weight));
      pen.lineTo((t + 1) * step, height(weight));
    });
    pen.stroke();
  });
}

function describe() {
  const { codes, weights } = view.utterance;
  const said = codes[view.frame].map((code, g) => `codebook ${g + 1} code ${code}`);
  const counted = Object.entries(weights).map(([name, each]) => `${name} weight ${each[view.frame]}`);
  const stage = get("stage");
  stage.setAttribute("aria-valuenow", view.frame + 1);
  stage.setAttribute("aria-valuetext", [
    `frame ${view.frame + 1}, ${(view.frame * state.set.hop).toFixed(2)} s`, ...said,
    `chosen: codebook ${view.group + 1}`, ...counted].join(", "));
}

function moveCursor() {
  const audio = get("audio");
  const seconds = playing ? playing.at(context.currentTime) : audio.currentTime;
  const left = (seconds / view.utterance.seconds) * get("stage").clientWidth;
  get("cursor").style.transform = `translateX(${left}px)`;
  const scroll = get("stage").parentElement;
  const moving = playing || !audio.paused;
  if (moving && (left < scroll.scrollLeft || left > scroll.scrollLeft + scroll.clientWidth - 30)) {
    scroll.scrollLeft = left - 40;
  }
  if (moving) requestAnimationFrame(moveCursor);
}

// The stretches [first frame, last frame + 1] that have a code.
function stretches(code, group) {
  const found = [];
  view.utterance.codes.forEach((codes, t) => {
    if (codes[group] !== code) return;
    if (found.length && found.at(-1)[1] === t) found.at(-1)[1] = t + 1;
    else found.push([t, t + 1]);
  });
  return found;
}

async function decoded(clip) {
  if (!sounds.has(clip)) {
    const bytes = Uint8Array.from(atob(data.audio[clip].split(",")[1]), (each) => each.charCodeAt(0));
    sounds.set(clip, await context.decodeAudioData(bytes.buffer));
  }
  return sounds.get(clip);
}

function stopCode() {
  if (playing) playing.nodes.forEach((node) => { node.onended = null; node.stop(); });
  playing = null;
  delete get("stage").dataset.playing;
}

async function playCode() {
  const code = view.utterance.codes[view.frame][view.group];
  const pieces = stretches(code, view.group);
  const frames = pieces.reduce((sum, [start, end]) => sum + end - start, 0);
  view.codeOn = true;
  get("status").textContent = `Code ${code} of codebook ${view.group + 1}: ${frames} of ` +
    `${view.utterance.codes.length} frames, in ${pieces.length} ${pieces.length === 1 ? "stretch" : "stretches"}.`;
  redraw();
  stopCode();
  get("audio").pause();
  context = context || new AudioContext();
  await context.resume();
  const sound = await decoded(view.utterance.clip);
  sequence(sound, pieces.map((piece) => piece.map((frame) => frame * state.set.hop)));
}

function sequence(sound, pieces) {
  let when = context.currentTime + 0.05;
  const plan = [];
  const nodes = pieces.map(([start, end]) => {
    const node = new AudioBufferSourceNode(context, { buffer: sound });
    const gain = new GainNode(context, { gain: 0 });
    node.connect(gain).connect(context.destination);
    gain.gain.setValueAtTime(0, when);  // short slopes, so that a cut does not click
    gain.gain.linearRampToValueAtTime(1, when + 0.003);
    gain.gain.setValueAtTime(1, when + (end - start) - 0.003);
    gain.gain.linearRampToValueAtTime(0, when + (end - start));
    node.start(when, start, end - start);
    plan.push([when, start, end]);
    when += end - start + GAP;
    return node;
  });
  const at = (now) => {
    const [begun, start, end] = plan.findLast((each) => each[0] <= now) || plan[0];
    return Math.min(start + Math.max(now - begun, 0), end);
  };
  playing = { nodes, at };
  get("stage").dataset.playing = "code";
  nodes.at(-1).onended = () => { stopCode(); moveCursor(); };
  moveCursor();
}

function clicked(event) {
  const place = (event.clientX - get("stage").getBoundingClientRect().left) / get("stage").clientWidth;
  const frames = view.utterance.codes.length;
  const above = event.clientY - get("ribbons").getBoundingClientRect().top;
  view.frame = Math.min(Math.floor((place * view.utterance.seconds) / state.set.hop), frames - 1);
  view.group = Math.min(Math.max(Math.floor(above / RIBBON), 0), groups() - 1);
  describe();
  playCode();
}

function typed(event) {
  const steps = { ArrowRight: 1, ArrowLeft: -1, PageUp: 10, PageDown: -10, Home: -Infinity, End: Infinity };
  const last = view.utterance.codes.length - 1;
  if (event.key in steps) view.frame = Math.min(Math.max(view.frame + steps[event.key], 0), last);
  else if (event.key === "ArrowUp" || event.key === "ArrowDown") {
    view.group = (view.group + (event.key === "ArrowUp" ? groups() - 1 : 1)) % groups();
  } else if (event.key === "Enter") playCode();
  else if (event.key === " ") {
    stopCode();
    if (get("audio").paused) get("audio").play();
    else get("audio").pause();
  } else return;
  event.preventDefault();
  if (event.key !== "Enter") view.codeOn = false;
  describe();
  redraw();
}

if (data.sets.length) {
  get("stage").addEventListener("click", clicked);
  get("stage").addEventListener("keydown", typed);
  for (const kind of ["focus", "blur"]) get("stage").addEventListener(kind, redraw);
  for (const kind of ["play", "seeked", "pause"]) get("audio").addEventListener(kind, () => view.utterance && moveCursor());
  get("audio").addEventListener("play", stopCode);
  addEventListener("resize", redraw);
}
