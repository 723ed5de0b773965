/* Makes the JPEG files beside it: left half #c02020, right half #2020c0, 64x48.
 * cc halves.c -ljpeg && ./a.out */
#include <stdio.h>
#include <jpeglib.h>

static void make(const char *name, int h, int v, int progressive, int cmyk) {
	struct jpeg_compress_struct c;
	struct jpeg_error_mgr e;
	unsigned char row[64 * 4];
	JSAMPROW rows[1] = {row};
	FILE *f = fopen(name, "wb");
	c.err = jpeg_std_error(&e);
	jpeg_create_compress(&c);
	jpeg_stdio_dest(&c, f);
	c.image_width = 64;
	c.image_height = 48;
	c.input_components = cmyk ? 4 : 3;
	c.in_color_space = cmyk ? JCS_CMYK : JCS_RGB;
	jpeg_set_defaults(&c);
	jpeg_set_quality(&c, 92, TRUE);
	c.comp_info[0].h_samp_factor = h;
	c.comp_info[0].v_samp_factor = v;
	if (progressive)
		jpeg_simple_progression(&c);
	jpeg_start_compress(&c, TRUE);
	for (int i = 0; i < 64 * c.input_components; i++) {
		int x = i / c.input_components, k = i % c.input_components;
		row[i] = (x < 32 && k == 0) || (x >= 32 && k == 2) ? 0xC0 : 0x20;
	}
	while (c.next_scanline < 48)
		jpeg_write_scanlines(&c, rows, 1);
	jpeg_finish_compress(&c);
	jpeg_destroy_compress(&c);
	fclose(f);
}

int main(void) {
	make("halves-420.jpg", 2, 2, 0, 0);
	make("halves-422.jpg", 2, 1, 0, 0);
	make("halves-444.jpg", 1, 1, 0, 0);
	make("halves-440.jpg", 1, 2, 0, 0);
	make("progressive.jpg", 1, 1, 1, 0);
	make("cmyk.jpg", 1, 1, 0, 1);
	return 0;
}
