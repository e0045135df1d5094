// Who is logged in, in the masthead: their name, the way to their account, and the way out.  On a local instance, where nobody
// logs in, it stays hidden.

import { getJson } from "./dom.js";

export async function startAccount() {
  const menu = document.getElementById("account");
  if (!menu) return;
  const { mode, name, role } = await getJson("internal/account").catch(() => ({ mode: "local" }));
  if (mode !== "accounts") return;
  menu.querySelector(".account-name").textContent = name;
  menu.querySelector(".account-role").textContent =
    role === "viewer" ? "Viewer: you may look but not paint." : role === "user" ? "User" : "Administrator";
  menu.querySelector(".account-out").addEventListener("click", leave);
  document.addEventListener("click", (event) => {
    if (menu.open && !menu.contains(event.target)) menu.open = false;
  });
  menu.hidden = false;
}

/** End the session.  The page that follows clears away what this browser kept for the next person at this machine. */
async function leave() {
  await fetch("logout", { method: "POST", redirect: "manual" }).catch(() => null);
  location.assign("login?left");
}
