// When a job of one's own is over: a sound, and a notification of the browser while the page is not in front, for who wants them.

import { preference } from "../preferences.js";

const NOTES = [659.25, 880]; // E5, A5
const NOTE_S = 0.16;
const PAUSE_MS = 1000; // many jobs at once are one sound

let audio = null;
let sounded = -Infinity;

/** Browsers let a page sound only after it was touched. */
function wake() {
  if (!preference("sound", false)) return;
  audio ??= new AudioContext();
  if (audio.state === "suspended") audio.resume().catch(() => {});
}

export function startAnnouncing() {
  for (const event of ["pointerdown", "keydown"]) document.addEventListener(event, wake, { capture: true, passive: true });
}

/** `words` say how the job ended; a job that was cancelled by its owner is no news. */
export function announce(job, words) {
  if (job.state === "cancelled") return;
  if (preference("sound", false)) sound(preference("sound_volume", 50));
  if (preference("notification", false) && !(document.visibilityState === "visible" && document.hasFocus())) notify(job, words);
}

export function sound(volume) {
  const now = performance.now();
  if (now - sounded < PAUSE_MS) return;
  sounded = now;
  try {
    audio ??= new AudioContext();
    NOTES.forEach((pitch, place) => {
      const [tone, gain] = [audio.createOscillator(), audio.createGain()];
      const from = audio.currentTime + place * NOTE_S;
      tone.frequency.value = pitch;
      gain.gain.setValueAtTime((0.4 * volume) / 100, from);
      gain.gain.linearRampToValueAtTime(0, from + 2 * NOTE_S);
      tone.connect(gain).connect(audio.destination);
      tone.start(from);
      tone.stop(from + 2 * NOTE_S);
    });
  } catch {
    /* no sound here */
  }
}

function notify(job, words) {
  if (!("Notification" in window) || Notification.permission !== "granted") return;
  try {
    const shown = new Notification("Atelier", { body: atelierText(words), tag: `atelier-${job.id}` }); // of several windows the last counts
    shown.addEventListener("click", () => {
      window.focus();
      shown.close();
    });
  } catch {
    /* phones have them for installed pages alone */
  }
}

/** Ask for leave.  Rejects with the reason and what to do. */
export async function allowNotifications() {
  if (!("Notification" in window)) throw new Error("This browser shows notifications only of pages over https or of this very machine.");
  if ((await Notification.requestPermission()) !== "granted") {
    throw new Error("The browser does not allow notifications of this page. Allow them beside its address, and switch this on again.");
  }
}
