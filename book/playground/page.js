// The page: the explorer, computed in the browser.

import { explore } from "../../metagan_lite/js/explorer.js";
import { engineOf } from "./engine.js";

// Build it into `root`. `buffer` is the file of tools/playground.py.
export const start = (root, buffer) => explore(root, engineOf(buffer));
