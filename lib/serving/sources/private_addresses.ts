import { BlockList, isIP } from "node:net";

/** Networks that the internet does not route to: those of this machine, of companies and homes, of clouds for their own machines, and of groups. */
const networks = [
  ...["0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24"],
  ...["192.168.0.0/16", "198.18.0.0/15", "224.0.0.0/4", "240.0.0.0/4"],
  ...["::/96", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8"],
  // Addresses of IPv4 in those of IPv6, behind which any of the above may be.
  ...["64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32"],
] as const;

const blocked = new BlockList();
for (const network of networks) {
  const [address, prefix] = network.split("/") as [string, string];
  blocked.addSubnet(address, Number(prefix), address.includes(":") ? "ipv6" : "ipv4");
}

/** Whether an address is of this machine, or of a network that the internet does not route to. A text that is no address is none either. */
export function isPrivateAddress(address: string): boolean {
  const family = isIP(address);
  if (family === 0) return true;
  // What stands behind "%" names a device of this machine. Addresses of IPv4 that are mapped are looked up as such by Node.
  const [plain = ""] = address.split("%");
  return blocked.check(plain, family === 6 ? "ipv6" : "ipv4");
}
