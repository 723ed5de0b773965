#include "panel.h"

#include <string.h>

enum {
	VERSION = 0x51,
	HELLO = 0x01,
	LEASE = 0x02,
	STATUS = 0x81,

	HELLO_SIZE = 4,
	LEASE_SIZE = 7,
	STATUS_SIZE = 12,

	MAX_PLAIN = 2 + 16 + 4,
	MAX_CODED = MAX_PLAIN + 1, /* below 254 bytes COBS adds one */
	MAX_READ = 256,            /* bytes of one step: a line that never ends does not keep the buttons waiting */

	LEASE_MS = 1500,
	STATUS_MS = 100,
	PRESS_MS = 20, /* a button is pressed, or let go, when it has been so for this long */
	OPEN_MS = 200, /* the shutter is open when it has been so for this long, and closed at once */
	BLINK_MS = 500,

	CAMERA = 1 << 0,
	OPEN = 1 << 1,
	DENIED = 1 << 2,
	NO_HELD = 1 << 3,
	ANSWER_HELD = 1 << 4,

	LAMP_RINGING = 1,
	LAMP_CALL = 2,
};

/* One input that settles. */
struct input {
	bool now;
	bool settled;
	uint32_t since; /* it has been now */
};

static struct {
	/* of the line */
	uint8_t coded[MAX_CODED];
	uint8_t length;
	bool is_long;

	/* of the lease */
	uint32_t session; /* 0: none */
	bool counted;     /* a lease of this session came; sequence is its number */
	uint8_t sequence;
	bool leased;
	uint32_t leased_at;
	bool wanted; /* the camera */
	uint8_t lamp;
	bool denied;

	/* of the person */
	struct input no, answer, shutter;
	uint8_t no_count, answer_count;

	/* of the status that was said last */
	uint8_t said_flags, said_no, said_answer;
	uint8_t said_sequence;
	uint32_t said_at;
	bool said;
} p;

static uint32_t crc32c(const uint8_t *b, uint8_t n)
{
	uint32_t crc = 0xffffffffu;
	while (n--) {
		crc ^= *b++;
		for (uint8_t i = 0; i < 8; i++)
			crc = (crc & 1) ? (crc >> 1) ^ 0x82f63b78u : crc >> 1;
	}
	return ~crc;
}

static uint32_t get32(const uint8_t *b)
{
	return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
}

static void put32(uint8_t *b, uint32_t v)
{
	b[0] = (uint8_t)(v >> 24);
	b[1] = (uint8_t)(v >> 16);
	b[2] = (uint8_t)(v >> 8);
	b[3] = (uint8_t)v;
}

static void give_up(void)
{
	p.leased = p.wanted = false;
	p.lamp = 0;
}

static void hello(uint32_t session)
{
	if (session == 0)
		return;
	p.said = false; /* so that it is answered at once */
	if (session == p.session)
		return;
	p.session = session;
	p.counted = false;
	give_up(); /* whoever had the lease is gone. What a person denied stays denied until that call is over. */
}

static void lease(const uint8_t *b, uint32_t now)
{
	if (b[5] > 1 || b[6] > LAMP_CALL || p.session == 0 || get32(b) != p.session)
		return;
	if (p.counted && (int8_t)(uint8_t)(b[4] - p.sequence) <= 0)
		return;
	p.counted = true;
	p.sequence = b[4];
	p.leased = true;
	p.leased_at = now;
	p.wanted = b[5] == 1;
	p.lamp = b[6];
	if (!p.wanted && p.lamp == 0)
		p.denied = false; /* the call is over */
}

/* What stands between two zeros. */
static void frame(const uint8_t *coded, uint8_t n, uint32_t now)
{
	uint8_t plain[MAX_CODED];
	uint8_t size = 0;
	for (uint8_t i = 0; i < n;) {
		uint8_t code = coded[i];
		if (code > n - i) /* it is not 0 */
			return;
		memcpy(plain + size, coded + i + 1, code - 1u);
		size = (uint8_t)(size + code - 1);
		i = (uint8_t)(i + code);
		if (i < n)
			plain[size++] = 0;
	}
	if (size < 6 || plain[0] != VERSION || get32(plain + size - 4) != crc32c(plain, (uint8_t)(size - 4)))
		return;
	if (plain[1] == HELLO && size == 6 + HELLO_SIZE)
		hello(get32(plain + 2));
	if (plain[1] == LEASE && size == 6 + LEASE_SIZE)
		lease(plain + 2, now);
}

static void receive(uint32_t now)
{
	for (uint16_t i = 0; i < MAX_READ; i++) {
		int b = panel_board_read();
		if (b < 0)
			return;
		if (b != 0) {
			if (p.length == MAX_CODED)
				p.is_long = true;
			else
				p.coded[p.length++] = (uint8_t)b;
			continue;
		}
		if (p.length > 0 && !p.is_long)
			frame(p.coded, p.length, now);
		p.length = 0;
		p.is_long = false;
	}
}

/* Returns true if the input has settled on true just now. */
static bool settle(struct input *in, bool value, uint32_t now, uint32_t on, uint32_t off)
{
	if (value != in->now) {
		in->now = value;
		in->since = now;
	}
	if (in->settled == in->now || now - in->since < (in->now ? on : off))
		return false;
	in->settled = in->now;
	return in->settled;
}

static void say(uint8_t flags, uint32_t now)
{
	if (p.said && flags == p.said_flags && p.no_count == p.said_no && p.answer_count == p.said_answer && now - p.said_at < STATUS_MS)
		return;
	uint8_t plain[2 + STATUS_SIZE + 4], light = 0;
	uint8_t knob = panel_board_knob(&light);
	plain[0] = VERSION;
	plain[1] = STATUS;
	put32(plain + 2, p.session);
	plain[6] = (uint8_t)(p.said_sequence + 1);
	plain[7] = flags;
	plain[8] = p.no_count;
	plain[9] = p.answer_count;
	plain[10] = knob > 100 ? 100 : knob;
	plain[11] = light;
	plain[12] = p.leased ? (uint8_t)((LEASE_MS - (now - p.leased_at)) / 10) : 0;
	plain[13] = PANEL_FIRMWARE;
	put32(plain + 14, crc32c(plain, 14));

	uint8_t out[sizeof plain + 3], size = 2, at = 1;
	out[0] = 0;
	out[1] = 1;
	for (uint8_t i = 0; i < sizeof plain; i++) {
		if (plain[i] == 0) {
			at = size;
			out[size++] = 1;
		} else {
			out[size++] = plain[i];
			out[at]++;
		}
	}
	out[size++] = 0;
	if (!panel_board_write(out, size))
		return; /* it is tried again in the next step */
	p.said = true;
	p.said_at = now;
	p.said_sequence++;
	p.said_flags = flags;
	p.said_no = p.no_count;
	p.said_answer = p.answer_count;
}

void panel_begin(void)
{
	memset(&p, 0, sizeof p);
	panel_board_camera(false);
	panel_board_lamp(false);
}

void panel_step(void)
{
	uint32_t now = panel_board_millis();
	receive(now);
	if (p.leased && now - p.leased_at >= LEASE_MS)
		give_up();

	if (settle(&p.no, panel_board_no(), now, PRESS_MS, PRESS_MS))
		p.no_count++;
	if (settle(&p.answer, panel_board_answer(), now, PRESS_MS, PRESS_MS))
		p.answer_count++;
	settle(&p.shutter, panel_board_open(), now, OPEN_MS, 0);
	if (p.no.settled && (p.wanted || p.lamp != 0))
		p.denied = true;

	bool camera = p.leased && p.wanted && !p.denied && p.shutter.settled;
	panel_board_camera(camera);
	panel_board_lamp(p.lamp == LAMP_CALL || (p.lamp == LAMP_RINGING && now % (2 * BLINK_MS) < BLINK_MS));

	say((uint8_t)((camera ? CAMERA : 0) | (p.shutter.settled ? OPEN : 0) | (p.denied ? DENIED : 0) |
		      (p.no.settled ? NO_HELD : 0) | (p.answer.settled ? ANSWER_HELD : 0)),
	    now);
	panel_board_alive();
}
