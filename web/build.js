// Bundles GraphiQL, its editor and the editor's workers into the folder that the gateway serves, with what their licences ask for.
import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { build } from "esbuild";

const OUT = "../gateway/web/graphiql";

// GraphiQL's own style sheet holds all of the editor's; without this esbuild writes them again beside every chunk.
const editorStylesOnce = {
  name: "editor-styles-once",
  setup: ({ onLoad }) => onLoad({ filter: /\/monaco-editor\/.*\.css$/ }, () => ({ contents: "", loader: "empty" })),
};

const packageOf = (path) => /^node_modules\/(?:.*\/node_modules\/)?(?:@[^/]+\/)?[^/]+/.exec(path)?.[0];

const licence = (folder) => {
  const { name, version, license } = JSON.parse(readFileSync(`${folder}/package.json`, "utf8"));
  const texts = readdirSync(folder).filter((file) => /^(licen[cs]e|thirdpartynotices)/i.test(file));
  return [`${name} ${version} (${license})`, ...texts.map((file) => readFileSync(`${folder}/${file}`, "utf8"))].join("\n\n");
};

rmSync(OUT, { recursive: true, force: true });
const { metafile } = await build({
  entryPoints: {
    graphiql: "graphiql.js",
    "editor.worker": "monaco-editor/esm/vs/editor/editor.worker.js",
    "graphql.worker": "monaco-graphql/esm/graphql.worker.js",
    "json.worker": "monaco-editor/esm/vs/language/json/json.worker.js",
  },
  outdir: OUT,
  bundle: true,
  splitting: true,
  format: "esm",
  target: "es2022",
  minify: true,
  legalComments: "none",
  define: { "process.env.NODE_ENV": '"production"' },
  plugins: [editorStylesOnce],
  metafile: true,
});

const packages = [...new Set(Object.keys(metafile.inputs).map(packageOf).filter(Boolean))].sort();
const fonts = "Fonts within the style sheet: Roboto (Apache-2.0), Fira Code (OFL-1.1), Codicons (CC-BY-4.0)";
writeFileSync(`${OUT}/LICENSES.txt`, [fonts, ...packages.map(licence)].join(`\n\n${"-".repeat(80)}\n\n`) + "\n");
