import { access, glob, readFile } from "node:fs/promises";
import { dirname, join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";

const root = fileURLToPath(new URL("../../", import.meta.url));
const pages = await Array.fromAsync(glob(["*.md", "{charts,docs,deploy,examples}/**/*.md"], { cwd: root }));

describe("links of the documentation", () => {
  test("lead to files of the repository and to headings of their pages", async () => {
    const broken: string[] = [];
    for (const page of pages)
      for (const link of linksOf(await readFile(join(root, page), "utf8")))
        if (!(await leadsSomewhere(page, link))) broken.push(`${page}: ${link}`);
    expect(broken).toEqual([]);
  });

  test("reach every page from the README", async () => {
    const seen = new Set<string>(["README.md"]);
    for (const page of seen)
      for (const link of linksOf(await readFile(join(root, page), "utf8")))
        for (const target of targetPages(page, link)) seen.add(target);
    expect(pages.filter((page) => !seen.has(page))).toEqual([]);
  });
});

/** Addresses of `[text](address)` outside code, without those of other hosts. */
function linksOf(text: string): readonly string[] {
  const prose = text.replaceAll(/^```.*?^```$/gms, "").replaceAll(/`[^`\n]*`/g, "");
  const found = [...prose.matchAll(/\]\(([^)\s]+)\)/g)].map(([, address = ""]) => address);
  return found.filter((address) => !/^[a-z]+:/.test(address));
}

async function leadsSomewhere(page: string, link: string): Promise<boolean> {
  const [path = "", heading] = link.split("#");
  const target = path === "" ? page : relative(root, resolve(root, dirname(page), path));
  if (target.startsWith("..") || !(await exists(join(root, target)))) return false;
  if (heading === undefined) return true;
  return headingsOf(await readFile(join(root, target), "utf8")).includes(heading);
}

function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}

/** Pages a link shows: a file, or those of a folder. */
function targetPages(page: string, link: string): readonly string[] {
  const target = relative(root, resolve(root, dirname(page), link.split("#")[0] ?? ""));
  return pages.filter((each) => each === target || dirname(each) === target);
}

/** As GitHub names them. */
function headingsOf(text: string): readonly string[] {
  const prose = text.replaceAll(/^```.*?^```$/gms, "");
  return [...prose.matchAll(/^#+ (.*)$/gm)].map(([, title = ""]) =>
    title
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N} _-]/gu, "")
      .replaceAll(" ", "-"),
  );
}
