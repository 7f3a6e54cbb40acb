"""What FFmpeg may do with a file that somebody else made.

FFmpeg finds the format by content, and some formats are lists of other files and addresses (HLS, concat, DASH): a
"video" could have it open any file of this machine, or any address. So only containers that hold their frames are
allowed, only local files, and no picture larger than a camera's.
"""

from collections.abc import Mapping

MAX_PIXELS = 1 << 26  # 8192 x 8192; FFmpeg itself would take 16 times as many, in each of some 16 frames that it keeps
CONTAINERS = (
    "mov", "mp4", "m4a", "3gp", "3g2", "mj2", "avi", "matroska", "webm", "mpeg", "mpegts", "mpegvideo", "asf", "flv",
    "ogg", "yuv4mpegpipe", "h264", "hevc", "ivf", "gif", "mxf", "nut", "dv", "rm", "wtv", "webp_pipe", "apng",
    "jpeg_pipe", "png_pipe", "mjpeg",
)  # fmt: skip
OPENING: Mapping[str, str] = {"format_whitelist": ",".join(CONTAINERS), "protocol_whitelist": "file,crypto,data"}
DECODING: Mapping[str, str] = {"max_pixels": str(MAX_PIXELS)}
