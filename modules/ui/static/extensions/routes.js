// The routes of the extensions (modules/api/page/extensions.py).  Everything rejects with the server's own words.

import { ask } from "../settings/routes.js";
import { checkSession } from "../dom.js";

const ROOT = "internal/extensions";
const of = (name) => `${ROOT}/${encodeURIComponent(name)}`;

export const extensions = {
  /** {extensions, options, may_edit, refusal, notices} */
  list: () => ask(ROOT),
  enable: (name) => ask(`${of(name)}/enable`, {}),
  disable: (name) => ask(`${of(name)}/disable`, {}),
  remove: (name) => ask(`${of(name)}/remove`, {}),
  update: (name) => ask(`${of(name)}/update`, {}),
  propose: (address) => ask(`${ROOT}/proposals`, { address }),
  accept: (token) => ask(`${ROOT}/proposals/${encodeURIComponent(token)}/accept`, {}),
  discard: (token) => ask(`${ROOT}/proposals/${encodeURIComponent(token)}/discard`, {}),

  /** What a zip (File) holds. */
  async proposeZip(file) {
    let response;
    try {
      response = checkSession(await fetch(`${ROOT}/proposals`, { method: "POST", headers: { "content-type": "application/zip" }, body: file }));
    } catch (error) {
      if (error instanceof TypeError) throw new Error("The server does not answer, or the file cannot be read.");
      throw error;
    }
    const answer = await response.json().catch(() => ({}));
    if (!response.ok) throw new Error(answer.error ?? `The server answered ${response.status}.`);
    return answer;
  },
};
