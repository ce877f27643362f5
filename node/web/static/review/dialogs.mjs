/** The dialogs by name, each fetched when it is first asked for. */

import { html, signal } from "../vendor/preact.mjs";
import { alarm } from "../shared/say.mjs";
import * as at from "./store.mjs";
import { reload } from "./changes.mjs";
import { keys } from "./keymap.mjs";

const MODULES = {
	Sign: () => import("./sign.mjs"), Amend: () => import("./after.mjs"), Keys: () => import("./keylist.mjs"),
	Compare: () => import("./compare.mjs"), Mount: () => import("./mountpage.mjs"), Retract: () => import("./retract.mjs"), Versions: () => import("./versions.mjs"),
	Repair: () => import("../worklist/repair.mjs"), Settings: () => import("./ownsettings.mjs"),
};
const parts = signal({});

export function Dialog() {
	const name = at.dialog.value;
	if (!name) return null;
	const part = parts.value[name];
	if (part) return html`<${part} keys=${keys.value} onChanged=${reload} onClosed=${() => (at.dialog.value = null)} />`;
	MODULES[name]().then(
		(module) => (parts.value = { ...parts.value, [name]: module[name] }),
		() => [alarm("That part could not be fetched. Is the node away?"), (at.dialog.value = null)],
	);
	return null;
}
