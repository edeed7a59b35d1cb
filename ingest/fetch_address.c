/* fetch_address.c - which addresses a document may be fetched from.
 *
 * The check is on the address that is about to be connected to, not on the text of the URL: every spelling of
 * a number, every name and every redirect ends in one of these.
 */
#include "ingest/fetch_internal.h"

#include <netinet/in.h>
#include <string.h>

typedef struct range4 {
    uint32_t address;
    int bits;
} range4;

/* IANA's special-purpose addresses that are no place of the public internet (RFC 6890 and its successors),
 * and the one address in public space under which a cloud answers its own machines. */
static const range4 special4[] = {
    {0x00000000, 8},  /* this network */
    {0x0A000000, 8},  /* private */
    {0x64400000, 10}, /* carrier's NAT */
    {0x7F000000, 8},  /* loopback */
    {0xA9FE0000, 16}, /* link-local, metadata services */
    {0xAC100000, 12}, /* private */
    {0xC0000000, 24}, /* protocol assignments */
    {0xC0000200, 24}, /* documentation */
    {0xC0586300, 24}, /* 6to4 relays */
    {0xC0A80000, 16}, /* private */
    {0xC6120000, 15}, /* benchmarks */
    {0xC6336400, 24}, /* documentation */
    {0xCB007100, 24}, /* documentation */
    {0xE0000000, 4},  /* multicast */
    {0xF0000000, 4},  /* reserved, broadcast */
    {0xA83F8110, 32}, /* 168.63.129.16: Azure's host */
};

static bool public4(uint32_t a) {
    for (size_t i = 0; i < sizeof special4 / sizeof *special4; i++)
        if (((a ^ special4[i].address) >> (32 - special4[i].bits)) == 0) return false;
    return true;
}

static bool has_prefix(const uint8_t *a, const uint8_t *prefix, int bits) {
    int bytes = bits / 8, rest = bits % 8;
    if (memcmp(a, prefix, (size_t)bytes) != 0) return false;
    return rest == 0 || (a[bytes] ^ prefix[bytes]) >> (8 - rest) == 0;
}

static bool public6(const uint8_t a[16]) {
    /* Only 2000::/3 is assigned to the internet. That leaves out ::, ::1, mapped and translated IPv4,
     * fc00::/7, fe80::/10, ff00::/8 and 64:ff9b::/96 without naming them. */
    if (a[0] >> 5 != 1) return false;
    static const struct {
        uint8_t prefix[4];
        int bits;
    } special6[] = {
        {{0x20, 0x01, 0x00, 0x00}, 23}, /* Teredo, ORCHID, benchmarks */
        {{0x20, 0x01, 0x0D, 0xB8}, 32}, /* documentation */
        {{0x20, 0x02, 0x00, 0x00}, 16}, /* 6to4: any IPv4 address in disguise */
        {{0x3F, 0xFF, 0x00, 0x00}, 20}, /* documentation */
    };
    for (size_t i = 0; i < sizeof special6 / sizeof *special6; i++)
        if (has_prefix(a, special6[i].prefix, special6[i].bits)) return false;
    return true;
}

bool fetch_address_is_public(const struct sockaddr *address) {
    if (address->sa_family == AF_INET) {
        struct sockaddr_in in;
        memcpy(&in, address, sizeof in);
        return public4(ntohl(in.sin_addr.s_addr));
    }
    if (address->sa_family == AF_INET6) {
        struct sockaddr_in6 in6;
        memcpy(&in6, address, sizeof in6);
        return public6(in6.sin6_addr.s6_addr);
    }
    return false;
}
