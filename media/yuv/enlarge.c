#include "enlarge.h"

#include <libyuv/convert_argb.h>
#include <libyuv/planar_functions.h>
#include <libyuv/scale_argb.h>

int vindu_enlarge(const uint8_t *y, int ys, const uint8_t *u, int us, const uint8_t *v, int vs, int sw, int sh,
                  uint8_t *dst, int ds, int w, int h, uint8_t *work) {
	uint8_t *pair = work, *wide[2] = {work + 8 * sw, work + 8 * sw + 4 * w};
	int converted = -1, have[2] = {-1, -1}, rc;
	/* As libyuv's own bilinear enlarging: the last row falls on the last row. */
	int64_t step = sh > 1 && h > 1 ? (((int64_t)sh << 16) - 0x10001) / (h - 1) : 0;
	for (int j = 0; j < h; j++) {
		int64_t at = j * step;
		int rows[2] = {(int)(at >> 16), (int)(at >> 16) + 1};
		if (rows[1] >= sh)
			rows[1] = sh - 1;
		for (int i = 0; i < 2; i++) {
			int r = rows[i];
			if (have[r & 1] == r)
				continue;
			int p = r & ~1;
			if (converted != p) {
				rc = I420ToARGB(y + (int64_t)p * ys, ys, u + (int64_t)(p / 2) * us, us, v + (int64_t)(p / 2) * vs, vs, pair, 4 * sw, sw, sh - p < 2 ? 1 : 2);
				if (rc)
					return rc;
				converted = p;
			}
			rc = ARGBScale(pair + (r & 1) * 4 * sw, 4 * sw, sw, 1, wide[r & 1], 4 * w, w, 1, kFilterBilinear);
			if (rc)
				return rc;
			have[r & 1] = r;
		}
		rc = ARGBInterpolate(wide[rows[0] & 1], 4 * w, wide[rows[1] & 1], 4 * w, dst + (int64_t)j * ds, ds, w, 1, (int)(at >> 8 & 255));
		if (rc)
			return rc;
	}
	return 0;
}
