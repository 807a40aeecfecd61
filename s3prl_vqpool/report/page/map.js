// t-SNE: one Plotly plot for each pooling; no text of users' files goes to Plotly.
const SYMBOLS = ["circle", "diamond"];
const PLAIN = { fixedrange: false, showgrid: false, zeroline: false, showticklabels: false, title: { text: "" } };
let plots = [];
let classes = [];

function drawMap() {
  const names = Object.keys(state.set.planes);
  get("map").hidden = names.length === 0;
  classes = [...new Set(state.set.utterances.map((each) => each.label))].sort();
  plots.forEach((plot) => Plotly.purge(plot));
  toggles(get("legend"), classes, swatchOfClass, (place, on) => {
    for (const plot of plots) Plotly.restyle(plot, { visible: on }, [place]);
  });
  get("planes").replaceChildren();
  plots = names.map((name) => {  // all boxes before the first plot: each plot asks for its width
    const box = element("div", null, { class: "plane" });
    const plot = element("div", null, {
      tabindex: "0", role: "group", "aria-roledescription": "map",
      "aria-label": `t-SNE of ${state.set.utterances.length} utterances under ${name}. Arrow keys move, Enter plays.`,
    });
    box.append(element("h4", `${name} (perplexity ${state.set.perplexity})`), plot);
    get("planes").append(box);
    return plot;
  });
  plots.forEach((plot, number) => {
    const name = names[number];
    Plotly.newPlot(plot, traces(state.set.planes[name]), layout(), {
      responsive: true, displaylogo: false, modeBarButtons: [["lasso2d", "select2d", "zoom2d", "pan2d", "resetScale2d"]],
    });
    plot.on("plotly_hover", (event) => point(event.points[0].customdata));
    plot.on("plotly_click", (event) => choose(event.points[0].customdata, true));
    plot.on("plotly_selected", (event) => event && select(event.points.map((each) => each.customdata)));
    plot.on("plotly_deselect", () => select(null));
    plot.addEventListener("keydown", (event) => walk(event, state.set.planes[name]));
  });
}

function swatchOfClass(place) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  const shape = document.createElementNS(space, place < PALETTE.length ? "circle" : "rect");
  const where = place < PALETTE.length
    ? { cx: 6, cy: 6, r: 5 } : { x: 2, y: 2, width: 8, height: 8, transform: "rotate(45 6 6)" };
  for (const [name, each] of Object.entries({ ...where, fill: PALETTE[place % PALETTE.length] })) {
    shape.setAttribute(name, each);
  }
  for (const [name, each] of Object.entries({ width: 12, height: 12, "aria-hidden": "true" })) svg.setAttribute(name, each);
  svg.append(shape);
  return svg;
}

function traces(places) {
  const all = state.set.utterances;
  const found = classes.map((label, number) => {
    const mine = [...all.keys()].filter((place) => all[place].label === label);
    return {
      type: "scatter", mode: "markers", hoverinfo: "none", customdata: mine,
      x: mine.map((place) => places[place][0]), y: mine.map((place) => places[place][1]),
      marker: {
        color: PALETTE[number % PALETTE.length], symbol: SYMBOLS[Math.floor(number / PALETTE.length) % SYMBOLS.length],
        size: mine.map((place) => (all[place].clip === null ? 5 : 9)),
        opacity: mine.map((place) => (all[place].clip === null ? 0.4 : 0.85)),
        line: { color: colour("--mark"), width: mine.map((place) => (isRight(all[place]) ? 0 : 1.5)) },
      },
      unselected: { marker: { opacity: 0.12 } },
    };
  });
  const ring = { symbol: "circle-open", size: 20, color: colour("--mark"), line: { width: 2.5 } };
  return [...found, { type: "scatter", mode: "markers", hoverinfo: "skip", x: [], y: [], marker: ring }];
}

function layout() {
  return {
    margin: { l: 8, r: 8, t: 8, b: 8 }, showlegend: false, hovermode: "closest", dragmode: "lasso",
    paper_bgcolor: colour("--card"), plot_bgcolor: colour("--card"), font: { color: colour("--text") },
    xaxis: { ...PLAIN, range: [-0.05, 1.05] }, yaxis: { ...PLAIN, range: [-0.05, 1.05], scaleanchor: "x" },
    modebar: { color: colour("--quiet"), activecolor: colour("--accent"), bgcolor: "rgba(0,0,0,0)" },
  };
}

// Mark an utterance in all maps, and say which it is.
function point(place) {
  const utterance = state.set.utterances[place];
  state.pointed = place;
  get("pointed").textContent = `${utterance.id}: ${inWords(utterance)}`;
  Object.values(state.set.planes).forEach((places, number) => {
    const [x, y] = places[place];
    Plotly.restyle(plots[number], { x: [[x]], y: [[y]] }, [classes.length]);
  });
}

function select(places) {
  state.selection = places && places.length ? new Set(places) : null;
  for (const plot of plots) {
    const kept = plot.data.slice(0, classes.length).map((trace) => state.selection &&
      [...trace.customdata.keys()].filter((k) => state.selection.has(trace.customdata[k])));
    Plotly.restyle(plot, { selectedpoints: kept }, [...classes.keys()]);
    if (!state.selection) Plotly.relayout(plot, { selections: [] });
  }
  drawList();
}

function walk(event, places) {
  const ways = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
  if (event.key === "Enter" && state.pointed !== undefined) choose(state.pointed, true);
  if (!(event.key in ways)) return;
  event.preventDefault();
  const [dx, dy] = ways[event.key];
  const here = places[state.pointed ?? 0];
  let best = null;
  let least = Infinity;
  places.forEach(([x, y], place) => {
    const ahead = (x - here[0]) * dx + (y - here[1]) * dy;
    const aside = Math.abs((x - here[0]) * dy) + Math.abs((y - here[1]) * dx);
    if (ahead > 0 && ahead + 2 * aside < least) [best, least] = [place, ahead + 2 * aside];
  });
  if (best !== null) point(best);
}
