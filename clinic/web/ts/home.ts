// An operator's page of one home: kept as the clinic has it (live.ts), with the terminal's numbers drawn over time. What is drawn is also said: in the page's table, and
// in the name of each picture.

import "./live";
import { Charts } from "./charts";

const box = document.getElementById("charts");
if (box) new Charts(box).start();
