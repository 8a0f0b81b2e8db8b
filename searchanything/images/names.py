"""Which objects are images: one rule for buckets, folders, events and estimates.

1. What operating systems and network drives leave behind (`._*`, `Thumbs.db`, `@eaDir/…`, at any depth) is no image.
2. A suffix decides where it is known: `.jpg` is an image whatever its type says, `.txt` and `.cr2` are none.
3. Any other name says nothing. Then the content type decides: `image/*` is an image, but for the formats that are not
   read. A folder has no types, so there the first bytes stand for the type.
4. What neither name nor type calls an image is none.

An include pattern that says how keys end overrides 2 to 4 (see `scopes`). Asking S3 for a type costs a request, which
is why a known suffix comes first: buckets with millions of `.json` must not cost millions of requests.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# What `decoding` reads. Names of JPEG: also those of Windows, of cameras and of several images in one file.
IMAGE_SUFFIXES: Final = _words(
    "jpg jpeg jpe jif jfif jfi pjpeg pjp mpo jps insp png apng pns webp gif giff tif tiff btf bmp dib avif avifs "
    "heic heif hif heics heifs"
)
# Images, but of formats that `decoding` does not read. The raw formats of cameras begin like TIFF and are none.
UNREAD_SUFFIXES: Final = _words(
    "jp2 j2k jpf jpx jpm jpc j2c jxl jxr hdp wdp svg svgz psd psb eps xcf kra ora afphoto indd ico cur icns tga "
    "dds exr hdr pcx pbm pgm ppm pnm pfm qoi bpg flif xbm xpm wmf emf fits fit dcm nii mrc cr2 cr3 crw nef nrw "
    "arw srf sr2 dng orf rw2 rwl raf pef ptx srw 3fr fff iiq eip erf kdc dcr mrw x3f gpr mos mef lsm svs ndpi scn "
    "mrxs vms qptiff czi lif nd2 oib vsi"
)
# Texts and data, documents, sound and film, archives, programs, fonts.
OTHER_SUFFIXES: Final = _words(
    "txt text md rst log csv tsv json jsonl ndjson geojson xml xmp xsl xsd yaml yml toml ini cfg conf env "
    "properties html htm xhtml css scss js mjs ts tsx jsx py pyc pyi ipynb sh bash bat cmd ps1 rb pl java class "
    "cc cpp hpp cs go rs swift kt lua sql proto lock patch diff tex bib srt vtt ass aae thm lrc nfo url parquet "
    "arrow feather avro orc npy npz pkl pickle h5 hdf5 mat db sqlite sqlite3 mdb tfrecord safetensors onnx pt pth "
    "ckpt tflite gguf part partial crdownload tmp temp swp md5 sha1 sha256 sig asc pem crt cer key p12 pfx pdf "
    "doc docx docm dotx odt ods odp odg xls xlsx xlsm ppt pptx pps epub mobi djvu rtf ps mp3 m4a wav flac ogg oga "
    "opus aac wma aif aiff mid mp4 m4v mov avi mkv webm mpg mpeg mts m2ts wmv flv 3gp 3g2 ogv lrv insv braw r3d "
    "mxf vob zip tgz bz2 xz lz4 7z rar tar iso dmg jar war whl egg deb rpm apk exe dll so dylib msi ttf otf woff "
    "woff2 eot"
)
# Types `image/…` of formats that are not read; those of raw photographs begin as below.
_UNREAD_TYPES: Final = _words(
    "svg+xml svg jp2 jpx jpm jxl jxr vnd.ms-photo vnd.adobe.photoshop x-photoshop x-xcf x-icon vnd.microsoft.icon "
    "icns x-icns x-tga x-targa vnd.ms-dds x-dds x-exr vnd.radiance x-pcx x-portable-bitmap x-portable-graymap "
    "x-portable-pixmap x-portable-anymap qoi x-xbitmap x-xpixmap x-xpm wmf emf x-wmf fits dicom-rle vnd.djvu "
    "vnd.dwg vnd.dxf x-eps x-fits"
)
_RAW_TYPES: Final = tuple(
    _words("x-canon x-nikon x-sony x-adobe-dng x-fuji x-olympus x-panasonic x-pentax x-samsung x-raw x-dcraw")
)
_SYSTEM_FILES: Final = _words(".ds_store thumbs.db ehthumbs.db ehthumbs_vista.db desktop.ini") | {"icon\r"}
_SYSTEM_FOLDERS: Final = frozenset(
    (
        "@eadir", "#recycle", "#snapshot", "$recycle.bin", "__macosx", ".appledouble", ".trashes", ".trash",
        ".spotlight-v100", ".fseventsd", ".temporaryitems", ".documentrevisions-v100", ".thumbnails", "lost+found",
        "system volume information",
    )
)  # fmt: skip


class SkipReason(StrEnum):
    """Why an object is skipped, in the words of the reports."""

    SYSTEM = "left behind by an operating system or a network drive"
    HIDDEN = "hidden: the name begins with a dot"
    OTHER = "the suffix names another kind of file"
    SIDECAR = "a sidecar by its name: read with its image, if there is one"
    UNREAD = "an image format that is not read"
    UNTYPED = "neither its name nor its type says that it is an image"
    EXCLUDED = "left out by the include and exclude patterns"


class NameSays(StrEnum):
    """What a name alone tells."""

    IMAGE = "image"
    NOTHING = "nothing"
    UNREAD = "unread"
    OTHER = "other"
    SYSTEM = "system"


_REASONS: Final = {
    NameSays.SYSTEM: SkipReason.SYSTEM,
    NameSays.OTHER: SkipReason.OTHER,
    NameSays.UNREAD: SkipReason.UNREAD,
}


def name_says(key: str) -> NameSays:
    """What a key alone tells of its object."""
    *folders, name = key.casefold().split("/")
    if not name:
        return NameSays.OTHER  # a folder's own marker
    if name.startswith("._") or name in _SYSTEM_FILES or not _SYSTEM_FOLDERS.isdisjoint(folders):
        return NameSays.SYSTEM
    _, dot, suffix = name.rpartition(".")
    if not dot:
        return NameSays.NOTHING
    if suffix in IMAGE_SUFFIXES:
        return NameSays.IMAGE
    if suffix in UNREAD_SUFFIXES:
        return NameSays.UNREAD
    return NameSays.OTHER if suffix in OTHER_SUFFIXES else NameSays.NOTHING


def is_system_name(name: str) -> bool:
    """True for a file or folder that operating systems and network drives leave behind."""
    return name_says(name) is NameSays.SYSTEM or name.casefold() in _SYSTEM_FOLDERS


def skip_reason(key: str, content_type: str | None) -> SkipReason | None:
    """Why an object is no image; None for an image. `content_type` is None where nobody tells it."""
    said = name_says(key)
    if said is NameSays.IMAGE:
        return None
    return _REASONS.get(said) or _type_reason(content_type)


def needs_type(key: str) -> bool:
    """True where the name says nothing, so that the content type decides."""
    return name_says(key) is NameSays.NOTHING


def claims_to_be_image(key: str, content_type: str | None) -> bool:
    """Whether an object is an image by its name and type."""
    return skip_reason(key, content_type) is None


def may_be_image(key: str) -> bool:
    """False where the name alone tells that this is no image."""
    return name_says(key) in (NameSays.IMAGE, NameSays.NOTHING)


def _type_reason(content_type: str | None) -> SkipReason | None:
    kind, _, subtype = (content_type or "").partition(";")[0].strip().lower().partition("/")
    if kind != "image":
        return SkipReason.UNTYPED
    return SkipReason.UNREAD if subtype in _UNREAD_TYPES or subtype.startswith(_RAW_TYPES) else None
