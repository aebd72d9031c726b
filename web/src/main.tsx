// Entry of the page `/player`.

import { render } from "preact";
import { App } from "./view/App";

const page = document.getElementById("page");
if (page) render(<App />, page);
