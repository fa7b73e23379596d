"""The attributes of DICOM PS3.15, table E.1-1, as `tag vr keyword`, into ps3_15_table_e1_1.txt.

python ps3_15.py   (pydicom 3, dicom-anonymizer 1.0)

dicom-anonymizer holds the table's tags by what the basic profile does with them (edition of 2024b);
VR and keyword are pydicom's. Groups that repeat (curves 50xx, overlays 60xx) stand with their first.
"""

from pathlib import Path

from dicomanonymizer.dicom_anonymization_databases import dicomfields_2024b as table
from pydicom.datadict import dictionary_keyword, dictionary_VR

tags = set()
for name in dir(table):
    if name.endswith("_TAGS"):
        for tag in getattr(table, name):
            tags.add(tuple(tag[:2]))
lines = []
for group, element in sorted(tags):
    if group % 2 or group == 0x5000 or group == 0x6000:
        continue
    try:
        vr, keyword = dictionary_VR((group, element)), dictionary_keyword((group, element))
    except KeyError:
        print("not in pydicom's dictionary:", hex(group), hex(element))
        continue
    lines.append(f"{group:04X}{element:04X} {vr[:2]} {keyword}")
lines += ["50000022 LO CurveDescription", "50003000 OW CurveData", "60003000 OW OverlayData", "60004000 LT OverlayComments"]
out = Path(__file__).resolve().parent / "ps3_15_table_e1_1.txt"
out.write_text("# DICOM PS3.15 2024b, table E.1-1; made by ps3_15.py\n" + "\n".join(lines) + "\n")
print(len(lines), "attributes")
