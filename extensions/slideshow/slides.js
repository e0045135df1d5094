// The slideshow: the newest pictures of the gallery one after the other.  It asks the gallery's own routes, which know whose
// pictures they are, and nothing else; a new picture is shown as soon as the gallery has it.
"use strict";

const LIMIT = 100; // pictures that take turns
const LOOK_MS = 5000; // between two looks for new ones
const IDLE_MS = 3000; // after which cursor and controls go away

const element = (id) => document.getElementById(id);
const asked = new URLSearchParams(location.search);
const state = {
  pictures: [],
  at: -1,
  seconds: Math.min(3600, Math.max(1, Number(asked.get("seconds")) || 8)),
  playing: true,
  waiting: 0,
  turn: 0,
};

function gallery(path) {
  return new URL(`../internal/gallery${path}`, location.href);
}

async function newest() {
  const address = gallery("");
  address.searchParams.set("q", asked.get("q") || "");
  address.searchParams.set("limit", String(LIMIT));
  const answer = await fetch(address, { headers: { accept: "application/json" } });
  if (answer.status === 401 || answer.status === 403 || answer.redirected) {
    throw new Error("You are not logged in here any more. Log in on the page of Atelier, and reload this one.");
  }
  const said = await answer.json();
  if (!answer.ok) throw new Error(String(said.error || said.detail || `The gallery answered ${answer.status}.`));
  return said.items.filter((one) => !one.broken && one.trashed === null);
}

function shuffled(pictures) {
  const mixed = [...pictures];
  for (let last = mixed.length - 1; last > 0; last -= 1) {
    const other = Math.floor(Math.random() * (last + 1));
    [mixed[last], mixed[other]] = [mixed[other], mixed[last]];
  }
  return mixed;
}

async function look() {
  try {
    const found = await newest();
    const known = new Set(state.pictures.map((one) => one.id));
    const there = new Set(found.map((one) => one.id));
    const fresh = found.filter((one) => !known.has(one.id));
    const current = state.pictures[state.at];
    if (!state.pictures.length) {
      state.pictures = asked.get("order") === "random" ? shuffled(found) : found;
      if (found.length) await show(0);
    } else if (fresh.length || found.length !== known.size) {
      const rest = state.pictures.filter((one) => there.has(one.id));
      state.pictures = [...fresh, ...rest];
      const place = current ? state.pictures.indexOf(current) : -1;
      state.at = place;
      if (fresh.length && state.playing) await show(fresh.length - 1); // the oldest of the new ones, then towards the newest
      else if (place < 0 && state.pictures.length) await show(0);
      else placed();
    }
    const none = asked.get("q") ? "No picture fits this search." : "There are no pictures yet. They come here as soon as there are some.";
    element("message").textContent = state.pictures.length ? "" : none;
    if (!state.pictures.length) for (const image of document.querySelectorAll("#stage img")) image.classList.remove("shown");
  } catch (error) {
    element("message").textContent = state.pictures.length ? "" : error instanceof TypeError ? "Atelier does not answer." : error.message;
  }
  setTimeout(look, LOOK_MS);
}

async function show(place) {
  const count = state.pictures.length;
  if (!count) return;
  state.at = ((place % count) + count) % count;
  const picture = state.pictures[state.at];
  const turn = (state.turn += 1);
  const [front, back] = element("one").classList.contains("shown") ? ["one", "other"] : ["other", "one"];
  const image = element(back);
  image.src = gallery(`/pictures/${picture.id}`).href;
  image.alt = picture.prompt || picture.name;
  try {
    await image.decode();
  } catch {
    if (turn === state.turn) wait(); // it went away meanwhile: the next one comes at its time
    return;
  }
  if (turn !== state.turn) return;
  image.hidden = false;
  image.classList.add("shown");
  element(front).classList.remove("shown");
  document.body.dataset.picture = String(picture.id);
  element("caption").textContent = picture.prompt || picture.name;
  placed();
  wait();
}

function placed() {
  element("place").textContent = state.pictures.length ? `${state.at + 1} of ${state.pictures.length}` : "";
}

function wait() {
  clearTimeout(state.waiting);
  if (state.playing) state.waiting = setTimeout(() => show(state.at + 1), state.seconds * 1000);
}

function play(playing) {
  state.playing = playing;
  element("play").textContent = playing ? "Stop" : "Go on";
  element("play").setAttribute("aria-pressed", String(!playing));
  wait();
}

function timed(seconds) {
  state.seconds = Math.min(3600, Math.max(1, seconds));
  element("seconds").textContent = `${state.seconds} s`;
  wait();
}

function captioned() {
  const caption = element("caption");
  caption.hidden = !caption.hidden;
  element("text").setAttribute("aria-pressed", String(!caption.hidden));
}

async function whole() {
  try {
    if (document.fullscreenElement) await document.exitFullscreen();
    else await document.documentElement.requestFullscreen();
  } catch {
    // a phone that has no whole screen for pages
  }
}

const KEYS = {
  ArrowRight: () => show(state.at + 1),
  ArrowLeft: () => show(state.at - 1),
  Home: () => show(0),
  " ": () => play(!state.playing),
  f: whole,
  i: captioned,
  "+": () => timed(state.seconds + 1),
  "-": () => timed(state.seconds - 1),
};

function listen() {
  addEventListener("keydown", (event) => {
    const pressed = event.target instanceof HTMLButtonElement && (event.key === " " || event.key === "Enter");
    const act = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!act || pressed || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    act();
  });
  for (const [id, act] of Object.entries({
    before: KEYS.ArrowLeft, after: KEYS.ArrowRight, play: KEYS[" "], text: captioned, whole,
    faster: KEYS["+"], slower: KEYS["-"],
  })) {
    element(id).addEventListener("click", act);
  }

  let from = null;
  addEventListener("touchstart", (event) => { from = event.touches.length === 1 ? event.touches[0].clientX : null; }, { passive: true });
  addEventListener("touchend", (event) => {
    const far = from === null ? 0 : event.changedTouches[0].clientX - from;
    if (Math.abs(far) > 50) show(state.at + (far < 0 ? 1 : -1));
  }, { passive: true });

  let idle = 0;
  const busy = () => {
    document.body.classList.remove("idle");
    clearTimeout(idle);
    idle = setTimeout(() => document.body.classList.add("idle"), IDLE_MS);
  };
  for (const event of ["pointermove", "pointerdown", "keydown"]) addEventListener(event, busy, { passive: true });
  busy();
}

async function awake() {
  try {
    if (document.visibilityState === "visible") await navigator.wakeLock.request("screen");
  } catch {
    // only a secure address may keep a screen on
  }
}

listen();
timed(state.seconds);
awake();
document.addEventListener("visibilitychange", awake);
look();
