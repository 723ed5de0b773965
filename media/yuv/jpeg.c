#include "jpeg.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>
#include <jerror.h>
#include <libyuv/scale.h>

struct vj {
	struct jpeg_decompress_struct c;
	struct jpeg_error_mgr e;
	jmp_buf jump;
	int code;
	int damaged;
	uint8_t *plane[3];
	size_t plane_size[3];
};

static void on_error(j_common_ptr c) {
	vj *d = (vj *)c->client_data;
	d->code = c->err->msg_code;
	longjmp(d->jump, 1);
}

/* Stray bytes between markers are common and harmless; a picture that ends early is not. */
static void on_message(j_common_ptr c, int level) {
	vj *d = (vj *)c->client_data;
	if (level >= 0)
		return;
	int code = c->err->msg_code;
	if (code == JWRN_JPEG_EOF || code == JWRN_HIT_MARKER || code == JWRN_HUFF_BAD_CODE) {
		d->damaged = 1;
		d->code = code;
	}
}

static void no_output(j_common_ptr c) { (void)c; }

vj *vj_new(void) {
	vj *d = calloc(1, sizeof *d);
	if (!d)
		return NULL;
	d->c.err = jpeg_std_error(&d->e);
	d->e.error_exit = on_error;
	d->e.emit_message = on_message;
	d->e.output_message = no_output;
	d->c.client_data = d;
	if (setjmp(d->jump)) {
		free(d);
		return NULL;
	}
	jpeg_create_decompress(&d->c);
	return d;
}

void vj_free(vj *d) {
	if (!d)
		return;
	jpeg_destroy_decompress(&d->c);
	for (int i = 0; i < 3; i++)
		free(d->plane[i]);
	free(d);
}

int vj_code(const vj *d) { return d->code; }

static int header(vj *d, const uint8_t *data, size_t len, int max_side) {
	jpeg_mem_src(&d->c, (unsigned char *)data, len);
	if (jpeg_read_header(&d->c, TRUE) != JPEG_HEADER_OK)
		return VJ_CORRUPT;
	if ((int)d->c.image_width < 1 || (int)d->c.image_height < 1 ||
	    d->c.image_width > (unsigned)max_side || d->c.image_height > (unsigned)max_side)
		return VJ_SHAPE;
	return VJ_OK;
}

int vj_size(vj *d, const uint8_t *data, size_t len, int max_side, int *w, int *h) {
	d->code = 0;
	d->damaged = 0;
	if (setjmp(d->jump)) {
		jpeg_abort_decompress(&d->c);
		return VJ_CORRUPT;
	}
	int r = header(d, data, len, max_side);
	if (r == VJ_OK) {
		*w = (int)d->c.image_width;
		*h = (int)d->c.image_height;
	}
	jpeg_abort_decompress(&d->c);
	return r;
}

/* Y: 16 + y*219/255; C: 128 + (c-128)*224/255; 16.16 fixed point, rounded. */
static void limit_luma(uint8_t *restrict p, int n) {
	for (int i = 0; i < n; i++)
		p[i] = (uint8_t)((p[i] * 56284u + 16u * 65536u + 32768u) >> 16);
}

static void limit_chroma(uint8_t *restrict p, int n) {
	for (int i = 0; i < n; i++)
		p[i] = (uint8_t)((p[i] * 57569u + (128u * 65536u - 128u * 57569u) + 32768u) >> 16);
}

void vj_limit(uint8_t *y, int ys, uint8_t *u, int us, uint8_t *v, int vs, int w, int h) {
	for (int i = 0; i < h; i++)
		limit_luma(y + (size_t)i * ys, w);
	for (int i = 0; i < (h + 1) / 2; i++) {
		limit_chroma(u + (size_t)i * us, (w + 1) / 2);
		limit_chroma(v + (size_t)i * vs, (w + 1) / 2);
	}
}

static int decode(vj *d, int w, int h) {
	struct jpeg_decompress_struct *c = &d->c;
	if (c->progressive_mode || c->arith_code)
		return VJ_FORMAT;
	if (!(c->num_components == 1 && c->jpeg_color_space == JCS_GRAYSCALE) &&
	    !(c->num_components == 3 && c->jpeg_color_space == JCS_YCbCr))
		return VJ_FORMAT;
	c->out_color_space = c->jpeg_color_space;
	c->raw_data_out = TRUE;
	c->do_fancy_upsampling = FALSE;
	c->dct_method = JDCT_ISLOW;
	/* Let the inverse DCT do what it can of the reduction: each halving quarters the work. */
	c->scale_num = 1;
	c->scale_denom = 1;
	while (c->scale_denom < 8 && (int)c->image_width / (int)(c->scale_denom * 2) >= w &&
	       (int)c->image_height / (int)(c->scale_denom * 2) >= h)
		c->scale_denom *= 2;

	if (!jpeg_start_decompress(c))
		return VJ_CORRUPT;

	int rows_per_call = c->max_v_samp_factor * c->min_DCT_scaled_size;
	int calls = ((int)c->output_height + rows_per_call - 1) / rows_per_call;
	int stride[3], step[3];
	JSAMPROW rows[3][64];
	JSAMPARRAY planes[3];
	for (int i = 0; i < c->num_components; i++) {
		jpeg_component_info *ci = &c->comp_info[i];
		step[i] = ci->v_samp_factor * ci->DCT_scaled_size;
		/* The last call may write a whole row of blocks beyond the picture. */
		stride[i] = (int)(ci->width_in_blocks + ci->h_samp_factor) * ci->DCT_scaled_size;
		if (step[i] < 1 || step[i] > 64)
			return VJ_FORMAT;
		size_t need = (size_t)stride[i] * step[i] * calls;
		if (d->plane_size[i] < need) {
			free(d->plane[i]);
			d->plane_size[i] = 0;
			d->plane[i] = malloc(need);
			if (!d->plane[i])
				return VJ_MEMORY;
			d->plane_size[i] = need;
		}
		planes[i] = rows[i];
	}
	for (int n = 0; n < calls && c->output_scanline < c->output_height; n++) {
		for (int i = 0; i < c->num_components; i++)
			for (int k = 0; k < step[i]; k++)
				rows[i][k] = d->plane[i] + (size_t)(n * step[i] + k) * stride[i];
		if (jpeg_read_raw_data(c, planes, (JDIMENSION)rows_per_call) == 0)
			return VJ_CORRUPT;
	}
	return d->damaged ? VJ_CORRUPT : VJ_OK;
}

int vj_decode(vj *d, const uint8_t *data, size_t len, int max_side,
              uint8_t *y, int ys, uint8_t *u, int us, uint8_t *v, int vs, int w, int h) {
	d->code = 0;
	d->damaged = 0;
	if (setjmp(d->jump)) {
		jpeg_abort_decompress(&d->c);
		return VJ_CORRUPT;
	}
	int r = header(d, data, len, max_side);
	if (r == VJ_OK)
		r = decode(d, w, h);
	if (r != VJ_OK) {
		jpeg_abort_decompress(&d->c);
		return r;
	}
	uint8_t *dst[3] = {y, u, v};
	int dst_stride[3] = {ys, us, vs};
	for (int i = 0; i < 3; i++) {
		int dw = i ? (w + 1) / 2 : w, dh = i ? (h + 1) / 2 : h;
		if (i >= d->c.num_components) {
			for (int k = 0; k < dh; k++)
				memset(dst[i] + (size_t)k * dst_stride[i], 128, dw);
			continue;
		}
		jpeg_component_info *ci = &d->c.comp_info[i];
		ScalePlane(d->plane[i], (int)(ci->width_in_blocks + ci->h_samp_factor) * ci->DCT_scaled_size,
		           (int)ci->downsampled_width, (int)ci->downsampled_height,
		           dst[i], dst_stride[i], dw, dh, kFilterBox);
	}
	jpeg_abort_decompress(&d->c);
	vj_limit(y, ys, u, us, v, vs, w, h);
	return VJ_OK;
}
