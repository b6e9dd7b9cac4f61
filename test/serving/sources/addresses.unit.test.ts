import assert from "node:assert/strict";
import { test } from "node:test";
import { AllowedUrls } from "../../../dist/serving/sources/allowed_urls.js";
import { isPrivateAddress } from "../../../dist/serving/sources/private_addresses.js";

test("addresses that the internet does not route to are private", () => {
  for (const address of [
    ...["0.0.0.0", "127.0.0.1", "127.255.255.254", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1"],
    ...["169.254.169.254", "100.64.0.1", "198.18.0.1", "224.0.0.1", "255.255.255.255"],
    ...["::", "::1", "fe80::1", "fe80::1%eth0", "fd00:ec2::254", "ff02::1", "::ffff:127.0.0.1", "::ffff:a9fe:a9fe"],
    ...["::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "::7f00:1"],
    ...["localhost", ""],
  ])
    assert.equal(isPrivateAddress(address), true, address);
  for (const address of ["8.8.8.8", "172.32.0.1", "172.15.0.1", "100.128.0.1", "2606:4700::1", "::ffff:8.8.8.8"])
    assert.equal(isPrivateAddress(address), false, address);
});

test("an expression names a host where it does not match other hosts", () => {
  for (const [source, url, expected] of [
    ["http://127\\.0\\.0\\.1:\\d+/.*", "http://127.0.0.1:8000/a.mar", true],
    ["https://models\\.corp/.*", "https://models.corp/a.mar", true],
    ["https://[^/]+\\.corp/.*", "https://models.corp/a.mar", true],
    ["http://10\\..*", "http://10.1.2.3/a.mar", true],
    ["http://\\[::1\\].*", "http://[::1]/a.mar", true],
    ["https?://.*", "http://127.0.0.1:8000/a.mar", false],
    [".*", "http://localhost/a.mar", false],
    ["http://[\\d.]+/.*", "http://10.1.2.3/a.mar", false],
    ["http://[^/]+:8000/.*", "http://10.1.2.3:8000/a.mar", false],
    ["http://[a-z0-9]+/.*", "http://models/a.mar", false],
    ["http://.*/a\\.mar", "http://[fd00::1]/a.mar", false],
    ["http://\\[.*", "http://[fd00::1]/a.mar", false],
    ["https://models\\.corp/.*", "https://other.corp/a.mar", false],
  ] as const)
    assert.equal(new AllowedUrls([source]).namesHost(new URL(url)), expected, `${source} ${url}`);
  // One that is about every host does not take from one that names it.
  assert.equal(new AllowedUrls([".*", "http://a/.*"]).namesHost(new URL("http://a/b")), true);
});
