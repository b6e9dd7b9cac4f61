import { copyFile, cp, mkdir, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { root, runNpm } from "./programs.js";

export interface Tarball {
  path: string;
  bytes: number;
  /** Paths inside the package. */
  files: string[];
}

/** Packs a copy of this checkout, with the addon of build/Release in the place of a prebuilt one. */
export async function packCheckout(folder: string): Promise<Tarball> {
  const stage = path.join(folder, "checkout");
  const left = new Set(["node_modules", ".cache", ".git", "prebuilds"].map((name) => path.join(root, name)));
  const isBuild = (file: string) =>
    path.dirname(file) === path.resolve(root) && /^build(-|$)/.test(path.basename(file));
  await cp(root, stage, {
    recursive: true,
    filter: (file) => !left.has(path.resolve(file)) && !isBuild(path.resolve(file)),
  });
  const prebuilds = path.join(stage, "prebuilds", `${process.platform}-${process.arch}`);
  await mkdir(prebuilds, { recursive: true });
  await copyFile(path.join(root, "build/Release/shardspeed.node"), path.join(prebuilds, "shardspeed.node"));
  const [packed] = JSON.parse(await runNpm(["pack", "--json", "--pack-destination", folder], stage));
  await rm(stage, { recursive: true });
  return {
    path: path.join(folder, packed.filename),
    bytes: packed.size,
    files: packed.files.map((file: { path: string }) => file.path),
  };
}

/** A new project whose only dependency is the tarball. */
export async function installTarball(tarball: Tarball, folder: string): Promise<string> {
  const project = path.join(folder, "project");
  await mkdir(project);
  await writeFile(path.join(project, "package.json"), `{ "private": true }\n`);
  await runNpm(["install", "--ignore-scripts", "--prefer-offline", "--no-audit", "--no-fund", tarball.path], project);
  return project;
}
