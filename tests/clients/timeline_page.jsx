// The page that shows the guide's timeline of the gateway that its address names.
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { Timeline, createGateway } from "./timeline.jsx";

const asked = new URLSearchParams(location.search);
const newToken = async () => (await fetch("/token")).text();
const gateway = createGateway(asked.get("gateway"), newToken, Number(asked.get("patience")));
createRoot(document.getElementById("root")).render(<StrictMode><Timeline gateway={gateway} /></StrictMode>);
