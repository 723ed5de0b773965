package split

import (
	"strings"
	"testing"
)

func TestRead(t *testing.T) {
	const traces = `File: vindu-agent
Type: cpu
Duration: 10s, Total samples = 100ms (1.00%)
-----------+-------------------------------------------------------
      50ms   runtime.cgocall
             vindu/media/codec._Cfunc_vv_encode
             vindu/media/codec.(*VP8Encoder).Encode
             vindu/media/session.(*encoder).send
-----------+-------------------------------------------------------
      20ms   runtime.memmove
             vindu/media/yuv.Scale
             vindu/media/display.(*Display).paint
-----------+-------------------------------------------------------
      20ms   syscall.Syscall6
             net.(*UDPConn).WriteTo
             github.com/pion/srtp/v3.(*SessionSRTP).write
-----------+-------------------------------------------------------
      10ms   runtime.futex
             runtime.schedule
-----------+-------------------------------------------------------
`
	got, err := read(strings.NewReader(traces))
	if err != nil {
		t.Fatal(err)
	}
	if s := String(got); s != "paint 20 %, encode 50 %, decode 0 %, sound 0 %, capture and convert 0 %, crypto and network 20 %, rest 10 %" {
		t.Error(s)
	}
	if _, err := read(strings.NewReader("File: x\n-----------+---\n")); err == nil {
		t.Error("a profile of nothing")
	}
}
