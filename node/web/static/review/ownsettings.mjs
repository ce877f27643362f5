/** The settings with the keys of this page. */

import { html } from "../vendor/preact.mjs";
import { Settings as Chosen } from "../shared/preferences.mjs";
import { worded } from "./keywords.mjs";

export function Settings({ keys, ...others }) {
	return html`<${Chosen} ...${others} keys=${worded(keys)} />`;
}
